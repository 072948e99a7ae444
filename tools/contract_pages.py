"""Write docs/contract/ from the rules of the contract kit and the mutants of its tests: `make docs`."""

import sys
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from brrr_contract_kit.registry import ROLES, Rule
from brrr_contract_kit.rules import all_rules, rules_of

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "docs" / "contract"
MADE: Final = "`make docs` writes this page from the code.\n"

HEAD: Final = """\
# The contract

The contract is the list of rules that every backend and every codec must obey. The page of a rule states its demand,
why the engine needs it, and how it is tested. [`brrr contract URL`](../reference/cli.md#brrr-contract-url) runs the
rules on a backend, and so do the test classes of `brrr_contract_kit`.
[Versions of the contract](../explanation/contract-versions.md) says what may change.

The rules run after the backend was opened and used once. If that fails, you get one error, and no rule is run. After
each rule the kit looks for tasks, threads, files and sockets that it left behind. It reports such a leak as a failure
of that rule, and names the rule that forbids it: [BACKEND-CLEAN-01](backend-clean.md#backend-clean-01) or
[BACKEND-CLEAN-04](backend-clean.md#backend-clean-04).

A rule without a condition applies to every backend of its role, and cannot be skipped. A rule that needs a capability
applies if the manifest declares it. A rule of steps applies if an open backend offers them, and then cannot be skipped
either. [Mutants](mutants.md) are deliberately broken backends; each rule catches at least
one of them.
"""

MUTANTS: Final = """\
# Mutants

Mutants are backends and codecs that are deliberately broken, each in one way. `make test` checks that the rules named
here catch each mutant, and that the same rules pass on the unbroken backend.

| mutant | defect | caught by |
| --- | --- | --- |
"""


def main() -> None:
    """Write the pages, and remove obsolete ones."""
    FOLDER.mkdir(exist_ok=True)
    made = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"Wrote {len(made)} pages into {FOLDER}")


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    families = {family: list(rules) for family, rules in groupby(all_rules(), key=lambda rule: rule.family)}
    made = {f"{family.lower()}.md": _family(family, rules) for family, rules in families.items()}
    return {"README.md": _index(), "mutants.md": _mutants(), **made}


def _index() -> str:
    lines = [HEAD]
    for role in ROLES:
        lines += [f"## {role.capitalize()}\n", "| rule | demand | applies |", "| --- | --- | --- |"]
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
    conditions = ["if the backend offers steps"] * (rule.role == "steps")
    conditions += [f"if `{rule.needs}` is declared"] * bool(rule.needs)
    conditions += [f"if `{rule.unless}` is not declared"] * bool(rule.unless)
    conditions += ["if two backends on one URL share data"] * rule.pair
    return " and ".join(conditions) or "always"


def _mutants() -> str:
    rows = [
        f"| `{mutant.name}` | {_cell(mutant.title)} | {', '.join(_link(rule) for rule in _rules(mutant))} |"
        for mutant in _all_mutants()
    ]
    return "\n".join([MUTANTS + "\n".join(rows), "", MADE])


def _all_mutants() -> list[Any]:
    sys.path.insert(0, str(ROOT / "plugins" / "brrr-contract-kit" / "tests"))
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
