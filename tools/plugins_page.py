"""Write docs/reference/plugins.md from docs/reference/plugins.toml: `make docs`.

Add a backend, or renew its entry, in two steps. Install the backend in this checkout's environment, and test it:

    .venv/bin/brrr contract URL --json report.json
    .venv/bin/python -m tools.plugins_page report.json

An entry holds the backend's manifest and the result of the contract kit. A backend that does not hold the whole
contract is refused.
"""

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from brrr_core.backend import BackendManifest
from brrr_core.plugins import backend_manifest
from brrr_core.plugins.registry import REGISTRY
from tools.distributions import read_distributions

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs/reference/plugins.md"
DATA: Final = ROOT / "docs/reference/plugins.toml"
FIGURES: Final = ROOT / "docs/explanation/performance.json"

ROLES: Final = ("queue", "store", "cache")
HELD: Final = ("passed", "not applicable")
"""The results of rules with which a backend is listed."""

CASES: Final = {
    "independent": "independent calls",
    "fan-out": "fan-out",
    "tree": "tree",
    "chain": "chain",
}
"""The cases of `make bench-peers` whose rates the page shows, in calls per second."""

DATA_HEAD: Final = (
    "# The backends of plugins.md. tools/plugins_page.py writes an entry from the report of the contract kit.\n"
)

HEAD: Final = """\
# Plugins

The backends that pass all rules of the contract: those of this project, and those of others. Each was tested with
[the contract kit](../contract/README.md), and no rule failed or was skipped. A rule that is not applicable needs a
capability that the backend does not declare, or a role that it does not play.

`brrr backends` lists the plugins that are installed in your environment. If a URL has a scheme of this page and its
plugin is not installed, the error shows the command that installs it.

Is yours missing? [Write a backend](../how-to/write-a-backend.md) shows how to add it.
"""

MADE: Final = "`make docs` writes this page from plugins.toml."


def main(arguments: list[str]) -> int:
    """Add the backends of the reports that are named, write the page, and return the exit status."""
    entries = [renewed(entry) for entry in read()]
    for report in arguments:
        entry = entry_of(json.loads(Path(report).read_text(encoding="utf-8")))
        entries = [each for each in entries if each["schemes"] != entry["schemes"]] + [entry]
    wrong = [defect for entry in entries for defect in defects(entry)]
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    DATA.write_text(data(entries), encoding="utf-8")
    PAGE.write_text(page(read()), encoding="utf-8")
    print(f"Wrote {PAGE}")
    return 0


def read() -> list[dict[str, Any]]:
    """Return the entries of the data file."""
    found: list[dict[str, Any]] = tomllib.loads(DATA.read_text(encoding="utf-8")).get("backend", [])
    return found


def data(entries: list[dict[str, Any]]) -> str:
    """Return the text of the data file, with the entries in order."""
    entries = sorted(entries, key=lambda entry: (entry["distribution"], entry["schemes"]))
    return "\n".join([DATA_HEAD, *map(toml, entries)])


def renewed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry with the manifest of this checkout, if it is a backend of this project. The kit does not run."""
    if entry["distribution"] not in read_distributions():
        return dict(entry)
    head = {name: entry[name] for name in ("distribution", "version")}
    return {**head, **declared(backend_manifest(entry["schemes"][0])), "kit": entry["kit"]}


def entry_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a backend: its manifest, which is installed here, and the result of the kit."""
    scheme = str(report["target"]).partition(":")[0]
    plugin = REGISTRY.backends.find(scheme)
    counts = dict.fromkeys(HELD, 0) | {result: count for result, count in report["counts"].items() if count}
    return {
        "distribution": plugin.origin.distribution,
        "version": plugin.origin.version,
        **declared(plugin.manifest),
        "kit": {
            "version": version("brrr-contract-kit"),
            "scheme": scheme,
            "complete": report["ok"] and report["complete"],
            "steps": any(rule["role"] == "steps" and rule["status"] == "passed" for rule in report["rules"]),
            "rules": counts,
        },
    }


def declared(manifest: BackendManifest) -> dict[str, Any]:
    """Return what a manifest declares, for an entry."""
    offered = {role: asdict(getattr(manifest, role)) for role in ROLES if getattr(manifest, role) is not None}
    roles = {role: {k: value for k, value in fields.items() if value is not None} for role, fields in offered.items()}
    head = {"schemes": list(manifest.schemes), "contract": manifest.contract, "summary": manifest.summary}
    return {**head, "example": manifest.example, **roles}


def defects(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the reasons why a backend must not be listed."""
    name, kit = f"{entry['distribution']} ({', '.join(entry['schemes'])})", entry["kit"]
    yield from (f"{name}: {n} rules have the result {k!r}" for k, n in kit["rules"].items() if k not in HELD and n)
    if not kit["complete"]:
        yield f"{name}: the run of the kit was partial or failed. Run all rules of all roles."
    if not kit["rules"]["passed"]:
        yield f"{name}: no rule passed"


def toml(entry: Mapping[str, Any]) -> str:
    """Return an entry as TOML. Its texts, numbers, lists and truth values are written as in JSON."""

    def lines(name: str, table: Mapping[str, Any]) -> Iterator[str]:
        yield f"[[{name}]]" if "." not in name else f"[{name}]"
        for key, value in table.items():
            if not isinstance(value, dict):
                yield f"{json.dumps(key) if ' ' in key else key} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in table.items():
            if isinstance(value, dict):
                yield from lines(f"{name}.{key}", value)

    return "\n".join(lines("backend", entry)) + "\n"


def page(entries: list[dict[str, Any]]) -> str:
    """Return the text of the page."""
    rows = ["| scheme | distribution | roles | contract | rules that hold | not applicable |", "| --- " * 6 + "|"]
    for entry in entries:
        rules = entry["kit"]["rules"]
        schemes = ", ".join(f"`{scheme}:`" for scheme in entry["schemes"])
        rows.append(
            f"| {schemes} | [{entry['distribution']}](#{anchor(entry)}) | {', '.join(roles(entry))} "
            f"| {entry['contract']} | {rules['passed']} | {rules['not applicable']} |"
        )
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))["figures"]
    sections = [section(entry, figures) for entry in entries]
    return "\n".join([HEAD, *rows, "", *sections, MADE, ""])


def roles(entry: Mapping[str, Any]) -> list[str]:
    """Return the roles of a backend, with its steps."""
    return [role for role in ROLES if role in entry] + ["steps"] * entry["kit"]["steps"]


def anchor(entry: Mapping[str, Any]) -> str:
    """Return the anchor of the section of a backend."""
    return title(entry).replace(":", "").replace(" ", "-")


def title(entry: Mapping[str, Any]) -> str:
    """Return the heading of the section of a backend."""
    return f"{entry['distribution']} {entry['schemes'][0]}:"


def section(entry: Mapping[str, Any], figures: list[dict[str, Any]]) -> str:
    """Return the section of a backend: its summary, its capabilities, and its rates if they were measured."""
    kit = entry["kit"]
    home = f"https://pypi.org/project/{entry['distribution']}/"
    lines = [
        f"## {title(entry)}",
        "",
        f"{entry['summary'][0].upper()}{entry['summary'][1:]}. `pip install {entry['distribution']}`, [PyPI]({home})",
        "",
        f"A URL: `{entry['example']}`. Tested: version {entry['version']}, with version {kit['version']} of the kit.",
        "",
        "| role | capabilities |",
        "| --- | --- |",
        *(f"| {role} | {capabilities(entry[role])} |" for role in ROLES if role in entry),
    ]
    rates = {
        each["case"]: each["rate"]
        for each in figures
        if each["engine"] == f"brrr {entry['schemes'][0]}" and each["rate"] and each["case"] in CASES
    }
    if rates:
        measured = ", ".join(f"{CASES[case]} {rates[case]:,.0f}" for case in CASES if case in rates)
        lines += ["", f"Calls per second of one worker: {measured} ([how](../explanation/performance.md))."]
    return "\n".join([*lines, ""])


def capabilities(role: Mapping[str, Any]) -> str:
    """Return the declared capabilities of a role, in words."""
    words = [name for name, value in role.items() if value is True]
    for name, value in role.items():
        if value and not isinstance(value, bool):
            shown = f"{value:g} s" if isinstance(value, float) else str(value)
            words.append(f"{name} {size(int(value)) if name.startswith('max_') else shown}")
    return ", ".join(words) or "none"


def size(count: int) -> str:
    """Return a number of bytes with a unit."""
    for unit, bytes_ in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= bytes_ and count % bytes_ == 0:
            return f"{count // bytes_} {unit}"
    return f"{count:,} bytes"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
