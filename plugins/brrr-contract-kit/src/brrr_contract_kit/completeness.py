"""A pytest plugin for the contract classes: every rule is run, no mark bypasses a rule, and no report shows a secret.

The first contract class registers it, so that other test suites are not slowed down.
"""

import os
from collections.abc import Generator, Sequence
from typing import Any, Final

import pytest

from brrr_contract_kit.registry import Rule
from brrr_contract_kit.target import secrets_of
from brrr_core.errors import ContractError
from brrr_core.plugins.masking import masking

__all__ = ["ALLOWED", "PARTIAL", "watch"]

PARTIAL: Final = "BRRR_CONTRACT_PARTIAL"
"""The environment variable that allows an author to deselect and skip rules while working on them."""

NAME: Final = "brrr-contract"

ALLOWED: Final = pytest.StashKey[bool]()
"""Set on a test if the kit itself decided that its rule does not apply, or may be skipped or fail."""


def watch(config: pytest.Config, kind: type, rules: Sequence[Rule]) -> None:
    """Ensure that all rules of a contract class are run."""
    plugin = config.pluginmanager.get_plugin(NAME)
    if not isinstance(plugin, CompletenessCheck):
        plugin = CompletenessCheck()
        config.pluginmanager.register(plugin, NAME)
    plugin.classes[kind] = rules


class CompletenessCheck:
    """Compares the collected rules with those that are run."""

    def __init__(self) -> None:
        self.classes: dict[type, Sequence[Rule]] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        """After all other plugins have deselected, add a failing test for each class that lacks rules."""
        parents = {_class_of(item): item.parent for item in items}
        result = yield
        left = {(_class_of(item), rule.id) for item in items if (rule := _rule_of(item))}
        for kind, rules in self.classes.items():
            missing = [rule.id for rule in rules if (kind, rule.id) not in left]
            if missing:
                parent = parents.get(kind)
                items.append(Incomplete.of(parent if isinstance(parent, pytest.Collector) else session, kind, missing))
        self.classes.clear()
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Report a rule as failed if a mark or fixture, and not an attribute of the class, skips or xfails it."""
        report = yield
        rule = _rule_of(item)
        if rule is not None:
            _mask(report, item)
        if rule is None or report.outcome != "skipped" or item.stash.get(ALLOWED, False) or os.environ.get(PARTIAL):
            return report
        reason = getattr(report, "wasxfail", "") or report.longrepr
        if hasattr(report, "wasxfail"):
            del report.wasxfail
        report.outcome = "failed"
        report.longrepr = (
            f"A mark or a fixture bypasses {rule.id}: {reason[2] if isinstance(reason, tuple) else reason}\n"
            "Name a rule that must fail in `expected_failures`, with a reason. "
            f"Set {PARTIAL}=1 in the environment to skip rules while you work on them."
        )
        return report

    def pytest_make_parametrize_id(self, val: object, argname: str) -> str | None:
        """Mask the URL in the id of a parametrized fixture."""
        secrets = secrets_of(val) if argname == "url" else []
        return masking(secrets)(str(val)) if secrets else None


def _mask(report: pytest.TestReport, item: pytest.Item) -> None:
    """Mask the secrets of the tested URL: arguments, locals, errors and captured logs can contain it."""
    given = getattr(item, "funcargs", {}).get("url"), getattr(item.parent, "obj", None)
    mask = masking([*secrets_of(given[0]), *secrets_of(getattr(given[1], "unreachable_url", None))])
    text = report.longreprtext
    if isinstance(report.longrepr, tuple):
        path, line, reason = report.longrepr
        report.longrepr = (path, line, mask(reason))
    elif mask(text) != text:
        report.longrepr = mask(text)
    report.sections = [(name, mask(content)) for name, content in report.sections]


def _class_of(item: pytest.Item) -> type | None:
    return getattr(item, "cls", None)


def _rule_of(item: pytest.Item) -> Rule | None:
    """Return the rule of a test, None for other tests."""
    spec: Any = getattr(item, "callspec", None)
    rule = spec.params.get("rule") if spec is not None else None
    return rule if isinstance(rule, Rule) else None


class Incomplete(pytest.Item):
    """A test that stands for the omitted rules of a class."""

    kind: type
    missing: list[str]

    @classmethod
    def of(cls, parent: pytest.Collector, kind: type, missing: list[str]) -> "Incomplete":
        """Make the test, next to those of the class."""
        made: Incomplete = cls.from_parent(parent, name="every_rule")  # pyright: ignore[reportUnknownMemberType]
        made.kind, made.missing = kind, missing
        return made

    def runtest(self) -> None:
        """Fail, or say that the run is partial."""
        what = f"{self.kind.__qualname__} omits {len(self.missing)} rules of the contract: {', '.join(self.missing)}"
        if os.environ.get(PARTIAL):
            pytest.skip(f"a partial run: {what}")
        raise ContractError(
            what,
            remedy=f"Run all rules. To omit some while you work on others, set {PARTIAL}=1 in the environment.",
        )

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return the location that pytest shows."""
        return self.path, None, self.name
