"""Keep docs/reference/public-api.txt: all public names with their signatures, and a check for breaking changes.

The committed page is the base of the comparison, so it works in every checkout, even before the first tag. It also
has the private names of the core that INSIDERS use, which may not break within a minor version either.

    python tools/public_api.py                  write the page; refuse if a change breaks the public API
    python tools/public_api.py --accept-breaks  write it in any case
    python tools/public_api.py --check          only compare: exit status 1 if the page differs
    python tools/public_api.py --since TAG      list the breaking changes since a release
"""

import re
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Final

import griffe

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "reference" / "public-api.txt"
SOURCES: Final = {
    "brrr_core": ".",
    "brrr_cli": "plugins/brrr-cli/src",
    "brrr_explain": "plugins/brrr-explain/src",
    "brrr_simulation": "plugins/brrr-simulation/src",
}
"""The packages with public names or with a use of private ones, and their folders."""

PUBLIC: Final = {
    "brrr_core": "for users",
    "brrr_core.backend": "for authors of backends",
    "brrr_cli.api": "for authors of commands",
    "brrr_core.codec": "for authors of codecs",
    "brrr_core.errors": "all errors",
    "brrr_core.hooks": "for authors of hook plugins",
    "brrr_core.sync": "for users without async code",
}
"""The public modules. `docs/reference/api.md` describes the rule."""

RECEIVED: Final = {
    "ActiveWorker",
    "Client",
    "Connection",
    "Event",
    "Handler",
    "LetterSelection",
    "PendingCall",
    "PlainHandler",
    "Task",
    "TypedTask",
}
"""Classes that programs receive and never make. Their constructors are private."""

INTERNAL: Final = {
    *("ActiveWorker.dropped", "ActiveWorker.end", "ActiveWorker.results", "ActiveWorker.run_handler"),
    "PendingCall.taken_by",
}
"""Methods of public classes that only the worker calls."""

HEAD: Final = """\
# The public names with their signatures, written by `make docs`. `make check` compares it with the code: a change of
# this file is a change of the public API. At the end are private names of the core that other distributions of brrr
# use, without values.
"""
COLOUR: Final = re.compile(r"\x1b\[\d+m")
PARAMETERS: Final = re.compile(r", Parameter\(.*\)\]$")
SECTION: Final = re.compile(r"^# module (.+)\n", re.MULTILINE)
INSIDERS: Final = ("brrr_cli", "brrr_explain", "brrr_simulation")
"""The packages that use private names of the core."""
FOR_INSIDERS: Final = ", private"
DUNDER: Final = ("__init__", "__call__", "__await__")


def main() -> int:
    """Run the command, and return its exit status."""
    parser = ArgumentParser(description="Keep the list of public names.")
    parser.add_argument("--check", action="store_true", help="compare only")
    parser.add_argument("--accept-breaks", action="store_true", help="write the page even if a change breaks the API")
    parser.add_argument("--since", metavar="TAG", help="list the breaking changes since a tag or commit")
    arguments = parser.parse_args()
    new = page()
    if arguments.since:
        print("\n".join(breaks(_page_at(arguments.since), new)) or f"Nothing broke since {arguments.since}.")
        return 0
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    broken = breaks(old, new)
    if broken and not arguments.accept_breaks:
        print("This change breaks the public API:", *broken, sep="\n  ")
        print(
            "If that is intended, say so in the CHANGELOG.md, under Changed or Removed, and run\n"
            "  .venv/bin/python tools/public_api.py --accept-breaks"
        )
        return 1
    if arguments.check:
        if old != new:
            print(*unified_diff(old.splitlines(), new.splitlines(), "the page", "the code", lineterm="", n=1), sep="\n")
            print("The public API changed, and nothing broke. Run `make docs` and commit its page.")
        return int(old != new)
    PAGE.write_text(new, encoding="utf-8")
    print(f"Wrote {PAGE.relative_to(ROOT)}")
    return 0


def page(root: Path = ROOT) -> str:
    """Return the page for the code in a folder."""
    modules = griffe.ModulesCollection()
    paths = [root / folder for folder in SOURCES.values()]
    for package in SOURCES:
        griffe.load(
            package, search_paths=paths, modules_collection=modules, try_relative_path=False, allow_inspection=False
        )
    sections = [HEAD]
    for path in PUBLIC:
        names = sorted(map(str, modules[path].exports or ()))
        sections.append(f"# module {path}\n\n" + "\n".join(_lines(modules[path], names)))
    for path, private in sorted(_private_names(modules).items()):
        lines = _lines(modules[path], sorted(private), values=False)
        sections.append(f"# module {path}{FOR_INSIDERS}\n\n" + "\n".join(lines))
    return "\n\n".join(sections) + "\n"


def _private_names(modules: griffe.ModulesCollection) -> dict[str, set[str]]:
    """Return the private names of the core that our other distributions import, by their modules."""
    found: dict[str, set[str]] = {}
    todo: list[griffe.Object] = [modules[package] for package in INSIDERS]
    while todo:
        module = todo.pop()
        todo += [each for each in module.modules.values() if not each.is_alias]  # not those that it imports
        for path, _, name in (target.rpartition(".") for target in module.imports.values()):
            private = path not in PUBLIC or name not in (modules[path].exports or ())
            if path.partition(".")[0] == "brrr_core" and private:
                found.setdefault(path, set()).add(name)
    return found


def breaks(old: str, new: str) -> list[str]:
    """Return a line for each change from the old page to the new one that breaks users of a public name."""
    before, after = _modules(old), _modules(new)
    lines = [f"{path}: the module was removed" for path in before if path not in after]
    for path in before.keys() & after.keys():
        for breakage in griffe.find_breaking_changes(before[path], after[path]):
            _, _, what = COLOUR.sub("", breakage.explain()).partition(": ")
            lines.append(f"{path}: {what}")
        lines += [f"{path}: {name}: Value was changed" for name in _changed_values(before[path], after[path])]
    return sorted(lines)


def _changed_values(old: griffe.Object, new: griffe.Object, inside: str = "") -> Iterator[str]:
    """Yield the names of constants with another value, such as the codes of errors. griffe does not compare these."""
    for name, before in old.members.items():
        after = new.members.get(name)
        if isinstance(before, griffe.Attribute) and isinstance(after, griffe.Attribute):
            if str(before.value) != str(after.value):
                yield inside + name
        elif isinstance(before, griffe.Class) and isinstance(after, griffe.Class):
            yield from _changed_values(before, after, f"{inside}{name}.")


def _modules(text: str) -> dict[str, griffe.Module]:
    parts = SECTION.split(text)
    return {
        path: griffe.visit(path.partition(",")[0].rpartition(".")[2], filepath=Path(f"{path}.py"), code=code)
        for path, code in zip(parts[1::2], parts[2::2], strict=True)
    }


def _page_at(revision: str) -> str:
    shown = f"{revision}:{PAGE.relative_to(ROOT).as_posix()}"
    git = ["git", "show", shown]
    return subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _lines(module: griffe.Object | griffe.Alias, names: Iterable[str], *, values: bool = True) -> Iterator[str]:
    for name in names:
        item = module[name]
        if item.is_attribute and not values:
            yield f"{name}: {item.annotation or '...'}"
        else:
            yield from _item(name, item, "")
        yield ""


def _item(name: str, item: griffe.Object | griffe.Alias, indent: str) -> Iterator[str]:
    """Yield the lines of a name: its signature without a body, or a class with its public members."""
    target = item.final_target if isinstance(item, griffe.Alias) else item
    if isinstance(target, griffe.Class):
        bases = ", ".join(map(str, target.bases))
        yield f"{indent}class {name}({bases}):" if bases else f"{indent}class {name}:"
        members = list(_members(target))
        for member, inside in members:
            yield from _item(member, inside, f"{indent}    ")
        if not members:
            yield f"{indent}    ..."
    elif isinstance(target, griffe.Function):
        yield from _function(name, target, indent)
    elif isinstance(target, griffe.Attribute):
        if "property" in target.labels:
            yield f"{indent}@property"
            yield f"{indent}def {name}(self) -> {target.annotation}: ..."
        else:
            of_instance = "class-attribute" not in target.labels and "instance-attribute" in target.labels
            text = PARAMETERS.sub(", ...]", str(target.value))  # the help of an option is not a promise
            value = f" = {text}" if target.value is not None and not of_instance else ""
            annotation = f": {target.annotation or '...'}" if target.annotation is not None or not value else ""
            yield f"{indent}{name}{annotation}{value}"


def _members(target: griffe.Class) -> Iterator[tuple[str, griffe.Object | griffe.Alias]]:
    if any(str(base) == "NamedTuple" for base in target.bases):
        yield "__init__", _constructor(target)
    for name, member in target.all_members.items():
        hidden = name == "__init__" and target.name in RECEIVED
        if (name in DUNDER or not name.startswith("_")) and not hidden and f"{target.name}.{name}" not in INTERNAL:
            yield name, member


def _constructor(target: griffe.Class) -> griffe.Function:
    """Return the constructor of a named tuple, whose fields are its parameters."""
    kind = griffe.ParameterKind.positional_or_keyword
    parameters = [griffe.Parameter("self", kind=kind)]
    for name, field in target.members.items():
        if isinstance(field, griffe.Attribute) and "property" not in field.labels and not name.startswith("_"):
            parameters.append(griffe.Parameter(name, annotation=field.annotation, default=field.value, kind=kind))
    return griffe.Function("__init__", parameters=griffe.Parameters(*parameters), parent=target)


def _function(name: str, function: griffe.Function, indent: str) -> Iterator[str]:
    word = "async def" if "async" in function.labels else "def"
    marks = [label for label in ("classmethod", "staticmethod") if label in function.labels]
    first = "" if function.parent is None or not function.parent.is_class or "staticmethod" in marks else "self"
    first = "cls" if "classmethod" in marks else first
    for each in (*(function.overloads or ()), function):
        rest = each.signature(name=name).removeprefix(f"{name}(")
        comma = ", " if first and not rest.startswith(")") else ""
        yield from (f"{indent}@{mark}" for mark in (marks if each is function else ["overload", *marks]))
        yield f"{indent}{word} {name}({first}{comma}{rest}: ..."


if __name__ == "__main__":
    sys.exit(main())
