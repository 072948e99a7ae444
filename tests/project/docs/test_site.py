"""The site has every page, its links lead to the right places, and a broken link, anchor or name fails its build."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tools import public_api, site

from .pages import PAGES, ROOT

SPHINX = ROOT / "build" / "site-env" / "bin" / "sphinx-build"

SOURCES = {"README.md": "index.md", "docs/how-to/run.md": "how-to/run.md", "plugins/p/README.md": "plugins/p.md"}


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return site.pages()


def test_site_has_every_page_and_public_module(made: dict[str, str]) -> None:
    sources = dict(site.sources_of_pages())

    assert {page.relative_to(ROOT).as_posix() for page in PAGES} - set(sources) == set()
    assert {f"reference/{module}.md" for module in public_api.PUBLIC} - set(made) == set()


def test_navigation_has_its_sections_in_order(made: dict[str, str]) -> None:
    captions = [caption.lower() for caption in re.findall(r"^:caption: (.+)$", made["index.md"], re.MULTILINE)]

    assert captions == list(site.SECTIONS)


def test_snippets_of_the_site_have_no_hidden_code(made: dict[str, str]) -> None:
    assert [name for name, text in made.items() if "<!-- python" in text] == []


def test_pictures_of_the_site_are_its_own(made: dict[str, str]) -> None:
    shown = {name: re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text) for name, text in made.items()}
    pictures = {os.path.normpath(Path(name).parent / link) for name, links in shown.items() for link in links}

    assert pictures == set(site.pictures().values())


@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("README.md", "[x](docs/how-to/run.md)", "[x](how-to/run.md)"),
        ("plugins/p/README.md", "[x](../../README.md#part)", "[x](../index.md#part)"),
        ("docs/how-to/run.md", "[x](../../brrr_core/wire.py)", "[x](REPOSITORY/blob/main/brrr_core/wire.py)"),
        ("docs/how-to/run.md", "[x](#part)", "[x](#part)"),
        ("docs/how-to/run.md", "[x](https://x.example/y.md)", "[x](https://x.example/y.md)"),
        ("docs/how-to/run.md", "[x](missing.md)", "[x](missing.md)"),
        ("README.md", "```md\n[x](docs/how-to/run.md)\n```", "```md\n[x](docs/how-to/run.md)\n```"),
    ],
)
def test_link_leads_to_its_place_on_the_site(source: str, link: str, expected: str) -> None:
    assert site.rewrite(source, link, SOURCES) == expected.replace("REPOSITORY", site.repository())


def build(folder: Path, index: str, **pages: str) -> str:
    """Build a small site with the settings of the real one. Return its warnings; empty if the build succeeds."""
    if not SPHINX.exists():
        assert os.environ.get("CI") != "true", "run `make site` first"
        pytest.skip("`make site` has not made build/site-env")
    for name, text in {"index": index, **pages}.items():
        (folder / f"{name}.md").write_text(text)
    command = [SPHINX, "-W", "--keep-going", "-n", "-q", "-c", ROOT / "docs", folder, folder / "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode == 0) == (ran.stderr == ""), ran.stderr
    return ran.stderr


TREE = "\n```{toctree}\n:hidden:\n\nother\n```\n"
API = "\n```{eval-rst}\n.. automodule:: brrr_core.hooks\n   :members: CallStarted, BackendFailed\n```\n"


def test_good_site_builds(tmp_path: Path) -> None:
    index = f"# Index\n\n[a](other.md#a-part) [b](#index)\n\n```mermaid\nflowchart LR\n    a --> b\n```\n{TREE}"

    assert build(tmp_path, index, other=f"# Other\n\n## A part\n{API}") == ""


BROKEN = """
[page](missing.md) [anchor elsewhere](other.md#far) [anchor here](#near)

```{eval-rst}
.. autoclass:: brrr_core.hooks.Absent

:py:class:`brrr_core.engine.Private`
```
"""


def test_broken_links_and_names_fail_the_build(tmp_path: Path) -> None:
    warnings = build(tmp_path, f"# Index\n{TREE}{BROKEN}", other="# Other\n", orphan="# Orphan\n")

    for broken in ("'missing.md'", "'far'", "'near'", "'Absent'", "brrr_core.engine.Private"):
        assert broken in warnings
    assert "orphan.md: WARNING: document isn't included in any toctree" in warnings
