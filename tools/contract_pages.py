"""Write docs/contract/ from the rules of the contract kit and the mutants of its tests: `make docs`."""

import sys
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from brrr_core.contract.registry import ROLES, Rule, all_rules, rules_of

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "docs" / "contract"
MADE: Final = "This page is made from the code, by `make docs`.\n"

HEAD: Final = """\
# The contract

What every backend and every codec must do, rule by rule: what is demanded, why the engine needs it, how it is tested.
`brrr contract URL` runs them on a backend, and so do the test classes of `brrr_core.contract`.

A rule without a condition holds for every backend of its role, and cannot be skipped. One that needs a capability is
demanded where the manifest declares it. [Mutants](mutants.md) are backends that are broken on purpose: each rule is
proved by one at least that it catches.
"""

MUTANTS: Final = """\
# Mutants

Backends and codecs that are broken on purpose, each in one way. On every run of `make test` each must be caught by the
rules that are named here, and the same rules must pass where nothing is broken.

| mutant | what is wrong with it | caught by |
| --- | --- | --- |
"""


def main() -> None:
    """Write the pages, and remove those that are no more."""
    FOLDER.mkdir(exist_ok=True)
    made = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"Wrote {len(made)} pages into {FOLDER}")


def pages() -> dict[str, str]:
    """File name to text."""
    families = {family: list(rules) for family, rules in groupby(all_rules(), key=lambda rule: rule.family)}
    made = {f"{family.lower()}.md": _family(family, rules) for family, rules in families.items()}
    return {"README.md": _index(), "mutants.md": _mutants(), **made}


def _index() -> str:
    lines = [HEAD]
    for role in ROLES:
        lines += [f"## {role.capitalize()}\n", "| rule | demands | applies |", "| --- | --- | --- |"]
        lines += [f"| {_link(rule)} | {_cell(rule.demand)} | {_applies(rule)} |" for rule in rules_of(role)]
        lines.append("")
    return "\n".join([*lines, MADE])


def _family(family: str, rules: list[Rule]) -> str:
    lines = [f"# {family}\n", "[All rules](README.md)\n"]
    for rule in rules:
        lines += [f"## {rule.id}\n", f"{rule.demand}\n", f"_Applies_: {_applies(rule)}.\n"]
        lines += [f"_Why_: {rule.why}\n", f"_Test_: {rule.test}\n"]
    return "\n".join([*lines, MADE])


def _applies(rule: Rule) -> str:
    conditions = [f"where `{rule.needs}` is declared"] * bool(rule.needs)
    conditions += [f"where `{rule.unless}` is not declared"] * bool(rule.unless)
    conditions += ["where two backends on one URL share anything"] * rule.pair
    return " and ".join(conditions) or "always"


def _mutants() -> str:
    rows = [
        f"| `{mutant.name}` | {_cell(mutant.title)} | {', '.join(_link(rule) for rule in _rules(mutant))} |"
        for mutant in _all_mutants()
    ]
    return "\n".join([MUTANTS + "\n".join(rows), "", MADE])


def _all_mutants() -> list[Any]:
    sys.path.insert(0, str(ROOT / "tests" / "contract"))
    try:
        from mutants import MUTANTS as FOUND  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    return sorted(FOUND, key=lambda mutant: (mutant.rules[0], mutant.name))


def _rules(mutant: Any) -> list[Rule]:
    by_id = {rule.id: rule for rule in all_rules()}
    return [by_id[id_] for id_ in mutant.rules]


def _link(rule: Rule) -> str:
    return f"[{rule.id}]({rule.page.removeprefix('docs/contract/')})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
