"""The report of a run, as text, JSON and a badge."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from html import escape
from typing import Final

from brrr_contract_kit.registry import Rule
from brrr_core.errors import BrrrError

__all__ = ["Outcome", "Report", "Status"]

ID_WIDTH: Final = 19
STATUS_WIDTH: Final = 16
"""The widths of the columns in characters."""

SLOWEST: Final = 5
"""The number of rules in the list of the slowest ones."""


class Status(Enum):
    """The possible results of a rule."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    EXPECTED = "expected failure"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one rule.

    Attributes:
        rule: The rule.
        status: Its status.
        reason: Why it failed, was skipped or does not apply; empty if it passed.
        seconds: Its duration.
        error: The exception, if it failed. In a run with several jobs it is a copy, with the text and the remedy.
        forbidden_by: If `rule` failed because of a leak: the rule that forbids this leak, if it is another rule.
    """

    rule: Rule
    status: Status
    reason: str = ""
    seconds: float = 0
    error: BaseException | None = field(default=None, repr=False)  # its causes may contain secrets
    forbidden_by: Rule | None = None

    @property
    def line(self) -> str:
        """Id, status, duration, demand, and the reason if the rule was not run."""
        why = f" ({self.reason})" if self.status in {Status.NOT_APPLICABLE, Status.SKIPPED} else ""
        head = f"{self.rule.id:{ID_WIDTH}}  {self.status.value:{STATUS_WIDTH}}  {self.seconds:5.2f} s"
        return f"{head}  {self.rule.demand}{why}"

    @property
    def demands(self) -> list[str]:
        """The broken demand of the rule, and that of the rule that forbids a leak, each with the link to its page."""
        if self.forbidden_by is None:
            return [f"{self.rule.id}: {self.rule.demand}", self.rule.link]
        other = self.forbidden_by
        return [f"{other.id} forbids this: {other.demand}", other.link,
                f"It was found after {self.rule.id}: {self.rule.demand}", self.rule.link]  # fmt: skip

    @property
    def remedy(self) -> str:
        """Action that fixes a failure; may be empty."""
        return self.error.remedy if isinstance(self.error, BrrrError) else ""


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a run.

    Attributes:
        target: Name of the backend or codec; contains no secret.
        seed: The seed that repeats the run.
        outcomes: One for each rule that was run, in the order of the rules.
        complete: Whether all rules of the tested roles were run.
        error: Why the backend cannot be tested, if no rule was run.
        seconds: Duration of the run.
        repetitions: How often the rules were run. The outcomes are those of the last repetition. All before it
            succeeded.
    """

    target: str
    seed: str
    outcomes: Sequence[Outcome]
    complete: bool = True
    error: BrrrError | None = None
    seconds: float = 0
    repetitions: int = 1

    @property
    def ok(self) -> bool:
        """Whether at least one rule passed and none failed."""
        return bool(self.of(Status.PASSED)) and not self.of(Status.FAILED)

    def of(self, status: Status) -> list[Outcome]:
        """Return the outcomes with that status."""
        return [outcome for outcome in self.outcomes if outcome.status is status]

    @property
    def summary(self) -> str:
        """Verdict and number of rules for each status, in one line."""
        if self.error is not None:
            return f"was not tested: {self.error}"
        verdict = "obeys the contract" if self.ok else "does not obey the contract"
        if self.ok and self.of(Status.EXPECTED):
            verdict = "obeys the contract except for expected failures"
        if not self.complete:
            verdict = f"partial run: {'no rule is broken' if self.ok else 'some rules are broken'}"
        return f"{verdict}: {self.counts or 'no rules were run'}{self._when}"

    @property
    def _when(self) -> str:
        if self.repetitions == 1:
            return ""
        return f" in each of {self.repetitions} repetitions" if self.ok else f" in repetition {self.repetitions}"

    @property
    def counts(self) -> str:
        """Number of rules for each status, without those that are zero."""
        return ", ".join(f"{len(found)} {status.value}" for status in Status if (found := self.of(status)))

    @property
    def heading(self) -> str:
        """Name of the target, and the seed."""
        return f"{self.target}, seed {self.seed}"

    def text(self) -> str:
        """Return a table of the rules, and `ending`."""
        return "\n".join([self.heading, "", *(outcome.line for outcome in self.outcomes), self.ending()])

    def ending(self) -> str:
        """Return the reasons and remedies of failures, the slowest rules and the summary."""
        lines: list[str] = []
        for outcome in [*self.of(Status.FAILED), *self.of(Status.EXPECTED)]:
            lines += ["", f"{outcome.rule.id} {outcome.status.value}{self._when}: {outcome.reason}"]
            lines += [f"    {line}" for line in (*outcome.demands, outcome.remedy) if line]
        if self.outcomes:
            slowest = sorted(self.outcomes, key=lambda outcome: -outcome.seconds)[:SLOWEST]
            named = ", ".join(f"{outcome.rule.id} {outcome.seconds:.2f} s" for outcome in slowest)
            lines += ["", f"{len(self.outcomes)} rules in {self.seconds:.1f} s; the slowest: {named}"]
        return "\n".join([*lines, "", self.summary])

    def json(self) -> str:
        """Return the report for programs: an object with `ok` and a list of `rules`."""
        rules = [
            {
                "id": outcome.rule.id,
                "role": outcome.rule.role,
                "demand": outcome.rule.demand,
                "status": outcome.status.value,
                "reason": outcome.reason,
                "seconds": round(outcome.seconds, 3),
                "page": outcome.rule.page,
                "remedy": outcome.remedy,
                "forbidden_by": None if outcome.forbidden_by is None else outcome.forbidden_by.id,
            }
            for outcome in self.outcomes
        ]
        error = self.error
        head = {
            "target": self.target,
            "seed": self.seed,
            "ok": self.ok,
            "complete": self.complete,
            "counts": {status.value: len(self.of(status)) for status in Status},
            "seconds": round(self.seconds, 3),
            "repetitions": self.repetitions,
            "error": None if error is None else {"code": error.code, "what": error.what, "remedy": error.remedy},
        }
        return json.dumps({**head, "rules": rules}, indent=2)

    def badge(self) -> str:
        """Return an SVG image for a README, with the number of rules that hold among those that apply."""
        held = len(self.of(Status.PASSED))
        ran = held + len(self.of(Status.FAILED)) + len(self.of(Status.EXPECTED)) + len(self.of(Status.SKIPPED))
        whole = self.ok and self.complete and held == ran
        text = f"{held}/{ran} rules" if self.complete else f"{held}/{ran} rules, partial"
        return _badge("brrr contract", text, "#2e7d32" if whole else "#c62828" if not self.ok else "#b26a00")


def _badge(label: str, text: str, colour: str) -> str:
    left, right = 7 * len(label) + 12, 7 * len(text) + 12
    name, label, text = escape(f"{label}: {text}"), escape(label), escape(text)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" aria-label="{name}">'
        f"<title>{name}</title>"
        f'<rect width="{left}" height="20" fill="#444"/><rect x="{left}" width="{right}" height="20" fill="{colour}"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{left / 2}" y="14">{label}</text><text x="{left + right / 2}" y="14">{text}</text></g></svg>\n'
    )
