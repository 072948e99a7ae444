"""The report of a run, as text, JSON and a badge."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from html import escape

from brrr_contract_kit.registry import Rule

__all__ = ["Outcome", "Report", "Status"]


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
        error: The exception, if it failed.
    """

    rule: Rule
    status: Status
    reason: str = ""
    seconds: float = 0
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a run.

    Attributes:
        target: Name of the backend or codec; contains no secret.
        seed: The seed that repeats the run.
        outcomes: One for each rule that was run.
        complete: Whether all rules of the tested roles were run.
    """

    target: str
    seed: str
    outcomes: Sequence[Outcome]
    complete: bool = True

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
        counts = [f"{len(found)} {status.value}" for status in Status if (found := self.of(status))]
        verdict = "holds the contract" if self.ok else "does not hold the contract"
        if self.ok and self.of(Status.EXPECTED):
            verdict = "holds the contract except for expected failures"
        if not self.complete:
            verdict = f"partial run: {'nothing is broken' if self.ok else 'broken'}"
        return f"{verdict}: {', '.join(counts) or 'no rules were run'}"

    def text(self) -> str:
        """Return a table of the rules, and the reasons of failures."""
        width = max((len(outcome.rule.id) for outcome in self.outcomes), default=0)
        mark = max(len(status.value) for status in Status)
        lines = [f"{self.target}, seed {self.seed}", ""]
        for outcome in self.outcomes:
            why = f" ({outcome.reason})" if outcome.status in {Status.NOT_APPLICABLE, Status.SKIPPED} else ""
            lines.append(f"{outcome.rule.id:{width}}  {outcome.status.value:{mark}}  {outcome.rule.demand}{why}")
        for outcome in [*self.of(Status.FAILED), *self.of(Status.EXPECTED)]:
            lines += ["", f"{outcome.rule.id} {outcome.status.value}: {outcome.reason}", f"    {outcome.rule.page}"]
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
            }
            for outcome in self.outcomes
        ]
        counts = {status.value: len(self.of(status)) for status in Status}
        head = {"target": self.target, "seed": self.seed, "ok": self.ok, "complete": self.complete, "counts": counts}
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
