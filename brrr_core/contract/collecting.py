"""What pytest is told once a contract class is collected: that its rules are all run, and none is waved through.

The plugin registers itself at the first contract class, so that it costs nothing elsewhere.
"""

import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

import pytest

from brrr_core.contract.registry import Rule
from brrr_core.errors import ContractError

if TYPE_CHECKING:
    from brrr_core.contract.classes import Contract

__all__ = ["ALLOWED", "PARTIAL", "watch"]

PARTIAL: Final = "BRRR_CONTRACT_PARTIAL"
"""The environment variable by which rules may be deselected and skipped while one works on them."""

NAME: Final = "brrr-contract"

ALLOWED: Final = pytest.StashKey[bool]()
"""Set on a test whose rule the kit itself has found not to apply, or allows to be skipped or to fail."""


def watch(config: pytest.Config, kind: "type[Contract]") -> None:
    """See that every rule of a contract class is run."""
    plugin = config.pluginmanager.get_plugin(NAME)
    if not isinstance(plugin, Collecting):
        plugin = Collecting()
        config.pluginmanager.register(plugin, NAME)
    plugin.classes[kind] = None


class Collecting:
    """Compares what was collected with what is run."""

    def __init__(self) -> None:
        self.classes: dict[type[Contract], None] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        """After everybody has deselected: a test that fails, for each class that misses rules."""
        parents = {_class_of(item): item.parent for item in items}
        result = yield
        left = {(_class_of(item), rule.id) for item in items if (rule := _rule_of(item))}
        for kind in self.classes:
            missing = [rule.id for rule in kind.rules() if (kind, rule.id) not in left]
            if missing:
                parent = parents.get(kind)
                items.append(Incomplete.of(parent if isinstance(parent, pytest.Collector) else session, kind, missing))
        self.classes.clear()
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A rule that is skipped, or expected to fail, by other means than the class's own attributes has failed."""
        report = yield
        rule = _rule_of(item)
        if rule is None or report.outcome != "skipped" or item.stash.get(ALLOWED, False) or os.environ.get(PARTIAL):
            return report
        reason = getattr(report, "wasxfail", "") or report.longrepr
        if hasattr(report, "wasxfail"):
            del report.wasxfail
        report.outcome = "failed"
        report.longrepr = (
            f"{rule.id} is waved through by a mark or a fixture, and proves nothing: "
            f"{reason[2] if isinstance(reason, tuple) else reason}\n"
            f"A rule that must fail stands in `expected_failures`, with a reason. {PARTIAL}=1 in the environment lets "
            "rules be skipped while you work on them."
        )
        return report


def _class_of(item: pytest.Item) -> type | None:
    return getattr(item, "cls", None)


def _rule_of(item: pytest.Item) -> Rule | None:
    """The rule that a test is for, None for other tests."""
    spec: Any = getattr(item, "callspec", None)
    rule = spec.params.get("rule") if spec is not None else None
    return rule if isinstance(rule, Rule) else None


class Incomplete(pytest.Item):
    """Stands for the rules of a class that were left out."""

    kind: type
    missing: list[str]

    @classmethod
    def of(cls, parent: pytest.Collector, kind: type, missing: list[str]) -> "Incomplete":
        """The test that stands beside those of the class."""
        made: Incomplete = cls.from_parent(parent, name="every_rule")  # pyright: ignore[reportUnknownMemberType]
        made.kind, made.missing = kind, missing
        return made

    def runtest(self) -> None:
        """Fail, or say that the run is partial."""
        what = (
            f"{self.kind.__qualname__} leaves out {len(self.missing)} rules of the contract: {', '.join(self.missing)}"
        )
        if os.environ.get(PARTIAL):
            pytest.skip(f"a partial run: {what}")
        raise ContractError(
            what,
            remedy=f"Run them all; while you work on some, {PARTIAL}=1 in the environment lets the others be left out.",
        )

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Where it is shown."""
        return self.path, None, self.name
