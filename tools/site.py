"""Build the documentation site into build/site, with strict links: `make site`.

The pages stay where GitHub shows them. This tool copies them to build/site-pages, in the layout of the site, adds the
navigation and the pages of the API reference, and runs Sphinx, which turns each warning into an error. docs/conf.py
has the settings of Sphinx.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

from tools.public_api import PUBLIC

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = ROOT / "build" / "site-pages"
SITE: Final = ROOT / "build" / "site"

SECTIONS: Final = ("tutorials", "how-to", "explanation", "reference", "contract", "decisions", "plugins", "project")
"""The sections of the navigation. Each is a folder of the site."""

LINK: Final = re.compile(r"(\]\()([^)\s:#]+)(#[^)\s]*)?(?=\))")
HIDDEN_CODE: Final = re.compile(r"^<!-- python\n.*?^-->\n", re.DOTALL | re.MULTILINE)
FENCE: Final = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def main() -> int:
    """Write the pages, run Sphinx, and return its exit status."""
    for folder in (PAGES, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    written = pages()
    for name, text in written.items():
        (PAGES / name).parent.mkdir(parents=True, exist_ok=True)
        (PAGES / name).write_text(text, encoding="utf-8")
    for source, name in pictures().items():
        shutil.copyfile(ROOT / source, PAGES / name)
    print(f"Building {len(written)} pages into {SITE.relative_to(ROOT)}", flush=True)
    options = ["--fail-on-warning", "--keep-going", "--nitpicky", "--fresh-env", "--quiet"]
    command = [sys.executable, "-m", "sphinx", *options, "--conf-dir", str(ROOT / "docs")]
    command += ["--doctree-dir", str(ROOT / "build" / "site-doctrees"), str(PAGES), str(SITE)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode


def pages() -> dict[str, str]:
    """Return the text of each page of the site by its name."""
    sources = dict(sources_of_pages())
    files = {source: target for source, target in sources.items() if (ROOT / source).is_file()}
    places = sources | pictures()
    made = {target: rewrite(source, text_of(source), places) for source, target in files.items()}
    made |= {f"reference/{module}.md": _api_page(module, purpose) for module, purpose in PUBLIC.items()}
    made["decisions/index.md"] = "# Decisions\n\nEach page explains one design choice that is not obvious.\n"
    for section in ("contract", "decisions"):
        inside = sorted(name for name in made if name.startswith(f"{section}/") and name != f"{section}/index.md")
        made[f"{section}/index.md"] += _toctree(name.removeprefix(f"{section}/") for name in inside)
    for section in SECTIONS:
        inside = sorted(name for name in made if name.startswith(f"{section}/"))
        index = f"{section}/index.md"
        if inside:
            made["index.md"] += _toctree([index] if index in inside else inside, section.capitalize())
    return made


def text_of(source: str) -> str:
    """Return a page of the repository without the hidden code of its snippets."""
    return HIDDEN_CODE.sub("", (ROOT / source).read_text(encoding="utf-8"))


def rewrite(source: str, text: str, sources: Mapping[str, str]) -> str:
    """Change the links of a page to the layout of the site.

    A link to a page or picture leads to its place on the site. A link to another file or folder of the repository leads
    to the repository. A link without a target stays as it is, and Sphinx refuses it.

    Args:
        source: The page's place in the repository.
        text: The page.
        sources: The places of all pages and pictures in the repository, with their places on the site.
    """
    here = Path(sources[source]).parent
    fences = [match.span() for match in FENCE.finditer(text)]

    def target(match: re.Match[str]) -> str:
        if any(begin <= match.start() < end for begin, end in fences):
            return match[0]
        file = os.path.normpath(Path(source).parent / match[2])
        anchor = match[3] or ""
        if place := sources.get(file, ""):
            return f"{match[1]}{os.path.relpath(place, here)}{anchor}"
        if (ROOT / file).exists():
            return f"{match[1]}{repository()}/blob/main/{file}{anchor}"
        return match[0]

    return LINK.sub(target, text)


def repository() -> str:
    """Return the address of the repository, from the metadata of brrr-core."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["urls"]["Repository"])


def sources_of_pages() -> Iterable[tuple[str, str]]:
    """Yield the places of all pages in the repository, with their places on the site."""
    yield "README.md", "index.md"
    yield "docs/decisions", "decisions/index.md"
    for name in ("CONTRIBUTING", "SECURITY", "CODE_OF_CONDUCT", "CHANGELOG"):
        yield f"{name}.md", f"project/{name.lower()}.md"
    for path in sorted(ROOT.glob("plugins/*/README.md")):
        yield path.relative_to(ROOT).as_posix(), f"plugins/{path.parent.name}.md"
    for path in sorted(ROOT.glob("docs/**/*.md")):
        inside = path.relative_to(ROOT / "docs").as_posix()
        yield (
            f"docs/{inside}",
            {"index.md": "project/map.md", "errors.md": "reference/errors.md"}.get(
                inside, inside.replace("README.md", "index.md")
            ),
        )


def pictures() -> dict[str, str]:
    """Return the places of the pictures of pages in the repository, with their places on the site."""
    found = [path for kind in ("png", "svg") for path in sorted(ROOT.glob(f"docs/*/*.{kind}"))]
    return {path.relative_to(ROOT).as_posix(): path.relative_to(ROOT / "docs").as_posix() for path in found}


def _api_page(module: str, purpose: str) -> str:
    options, also = ":members:", ""
    if module == "brrr_core":
        shared = sorted(name for name in _names(module) if any(_same(name, module, other) for other in PUBLIC))
        options += f"\n   :exclude-members: {', '.join(shared)}"
        also = (
            f"Other pages describe {', '.join(f'`{name}`' for name in shared)}, which are names of `brrr_core` too.\n\n"
        )
    directive = f"```{{eval-rst}}\n.. automodule:: {module}\n   {options}\n```\n"
    return f"# {module}: {purpose}\n\n{also}{directive}"


def _same(name: str, module: str, other: str) -> bool:
    """Whether two modules offer the same object under a name. `brrr_core.sync` has a `connect` of its own."""
    return (
        other != module
        and name in _names(other)
        and getattr(import_module(module), name) is getattr(import_module(other), name)
    )


def _names(module: str) -> list[str]:
    names: list[str] = import_module(module).__all__
    return names


def _toctree(names: Iterable[str], caption: str = "") -> str:
    head = f":caption: {caption}\n" if caption else ""
    return "\n```{toctree}\n:hidden:\n" + head + "\n" + "\n".join(names) + "\n```\n"


if __name__ == "__main__":
    sys.exit(main())
