"""Run one rule in its own event loop, and check that it leaves nothing behind."""

import asyncio
import math
import time
from asyncio import TimerHandle, get_running_loop
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Self, TypeVar

from brrr_contract_kit.registry import Rule
from brrr_contract_kit.report import Outcome, Status
from brrr_contract_kit.rules import find
from brrr_contract_kit.target import GRACE, Target, offers_steps, shares_data
from brrr_contract_kit.testbed.checks import broken
from brrr_contract_kit.testbed.codecs import CodecContext, CodecTarget
from brrr_contract_kit.testbed.context import Context, NotApplicableError, StalledError
from brrr_contract_kit.testbed.leaks import LeakError, check_tasks, watched
from brrr_core.errors import BrrrError, ContractError, RuleBrokenError

__all__ = ["MAX_TRIES", "SEED", "limit_of", "masked", "run_rule"]

ErrorT = TypeVar("ErrorT", bound=Exception)

SEED: Final = "BRRR_CONTRACT_SEED"
"""The environment variable with the seed of a run."""

MAX_TRIES: Final = 3
"""The most runs of a rule if this machine is too busy for a verdict."""

STALL_SHARE: Final = 0.3
"""If the event loop stalls for more than this part of a lease, the stall counts as the cause of a failure."""

CLOCK_INTERVAL: Final = 0.02
"""Seconds between two readings of the clock."""


class StallDetector:
    """Detects stalls of the event loop: on a busy machine, a lease may expire without a fault of the backend.

    It reads the clock periodically inside `async with`. It uses callbacks, since rules count the tasks of the loop.

    Args:
        longest: The loop counts as stalled if more seconds pass between two readings.
    """

    def __init__(self, longest: float) -> None:
        self.stalled = False
        self._longest = longest
        self._last = 0.0
        self._timer: TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._last = get_running_loop().time()
        self._tick()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._read_clock()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._read_clock()
        self._timer = get_running_loop().call_later(CLOCK_INTERVAL, self._tick)

    def _read_clock(self) -> None:
        now = get_running_loop().time()
        self.stalled = self.stalled or now - self._last > self._longest
        self._last = now


def limit_of(rule: Rule, target: Target | CodecTarget) -> float:
    """Return the seconds after which a rule fails."""
    return rule.limit * (max(1.0, target.grace / GRACE) if isinstance(target, Target) else 1.0)


def run_rule(rule: Rule, target: Target | CodecTarget, seed: str) -> Outcome:
    """Run one rule in its own event loop, and again if this machine was too busy for a verdict."""
    begun = time.monotonic()
    if isinstance(target, Target) and (excuse := target.excuse(rule)):
        return Outcome(rule, Status.NOT_APPLICABLE, excuse)
    what = f"this machine was too busy {MAX_TRIES} times to settle a delivery within its lease"
    outcome = Outcome(rule, Status.FAILED, what, error=ContractError(what, remedy="Set a longer `lease`."))
    for _ in range(MAX_TRIES):
        detector = StallDetector(STALL_SHARE * (target.lease if isinstance(target, Target) else math.inf))
        ended = _run_once(rule, target, seed, detector)
        outcome = ended or outcome
        if ended is not None and not (ended.status is Status.FAILED and detector.stalled):
            break
    return replace(outcome, seconds=time.monotonic() - begun)


def _run_once(rule: Rule, target: Target | CodecTarget, seed: str, detector: StallDetector) -> Outcome | None:
    """Run one rule; return None if it has no verdict."""
    mask = target.mask if isinstance(target, Target) else str
    try:
        with watched() as unhandled, asyncio.Runner(loop_factory=unhandled.new_loop) as runner:
            runner.run(_run(rule, target, f"{seed} {rule.id}", detector))
    except NotApplicableError as excuse:
        return Outcome(rule, Status.NOT_APPLICABLE, mask(str(excuse)))
    except StalledError:
        return None
    except Exception as caught:  # noqa: BLE001 - a backend can raise anything, and the report shows it
        error = masked(_most_useful(caught), mask)
        reason = mask(getattr(error, "what", "") or f"{type(error).__name__}: {error}")
        outcome = Outcome(
            rule, Status.FAILED, f"{reason} (seed {seed})", error=error, forbidden_by=_forbidding(error, rule, target)
        )
        for line in outcome.demands:
            error.add_note(line)
        error.__notes__[-1] += f"; {SEED}={seed} repeats the run"
        return outcome
    return Outcome(rule, Status.PASSED)


def masked(error: ErrorT, mask: Callable[[str], str]) -> ErrorT:
    """Mask the secrets in the text of an error of brrr, and return it."""
    if isinstance(error, BrrrError):
        error.what, error.remedy = mask(error.what), mask(error.remedy)
        error.args = tuple(mask(each) if isinstance(each, str) else each for each in error.args)
    return error


def _forbidding(error: Exception, rule: Rule, target: Target | CodecTarget) -> Rule | None:
    """Return the rule that forbids a leak, if another rule has found it."""
    if not isinstance(error, LeakError) or isinstance(target, CodecTarget) or error.forbidden_by == rule.id:
        return None
    return find(error.forbidden_by)


def _most_useful(error: Exception) -> Exception:
    """Return the most useful error of a group: the `RuleBrokenError`, or else the first."""
    if not isinstance(error, ExceptionGroup):
        return error
    group: ExceptionGroup[Exception] = error  # pyright: ignore[reportUnknownVariableType]
    leaves = [_most_useful(each) for each in group.exceptions]
    return next((each for each in leaves if isinstance(each, RuleBrokenError)), leaves[0])


async def _run(rule: Rule, target: Target | CodecTarget, seed: str, detector: StallDetector) -> None:
    seconds = limit_of(rule, target)
    limit = asyncio.timeout(seconds)
    try:
        async with limit, detector:
            await _in_context(rule, target, seed)
    except TimeoutError as error:
        if not limit.expired():
            raise
        broken(f"the rule did not end within {seconds:g} s", cause=error)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        broken("an operation that was not cancelled raised a CancelledError", cause=error)
    check_tasks()


async def _in_context(rule: Rule, target: Target | CodecTarget, seed: str) -> None:
    context: Any
    if isinstance(target, CodecTarget):
        await rule.run(CodecContext(target, seed))
        return
    if rule.role == "steps" and not await offers_steps(target):
        raise NotApplicableError("the backend offers no steps")
    if rule.pair and not target.shared(rule.role) and not await shares_data(target):
        raise NotApplicableError("two backends on this URL share no data, and the manifest does not declare `shared`")
    async with Context(target, seed) as context:
        await rule.run(context)
