"""Runs rules: each in an event loop of its own, watched for what it leaves behind."""

import asyncio
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from secrets import token_hex
from typing import Any, Final

from brrr_core.codec.contracts import Codec
from brrr_core.contract.checks import broken
from brrr_core.contract.codecs import CodecContext, CodecTarget
from brrr_core.contract.context import Context, NotApplicableError, StalledError
from brrr_core.contract.leaks import other_tasks, watched
from brrr_core.contract.pulse import Pulse
from brrr_core.contract.registry import Rule, find, rules_of
from brrr_core.contract.report import Outcome, Report, Status
from brrr_core.contract.sharing import share
from brrr_core.contract.target import GRACE, LEASE, Target
from brrr_core.errors import ContractError, RuleBrokenError

__all__ = ["SEED", "Judge", "run_codec_contract", "run_contract", "run_rule"]

SEED: Final = "BRRR_CONTRACT_SEED"

TRIES: Final = 3
"""How often a rule is run at most, where this machine is too busy for a verdict."""

STALL: Final = 0.3
"""The part of a lease for which the event loop may stand still, before a failure is put down to that."""

Progress = Callable[[Outcome], None]


class Judge:
    """Knows which rules may be skipped or fail, and judges what happened.

    Args:
        skips: Rule id to reason.
        expected_failures: Rule id to reason.

    Raises:
        ContractError: An id is unknown, a reason is missing, or a rule that applies to every backend is skipped.
    """

    def __init__(self, skips: Mapping[str, str], expected_failures: Mapping[str, str]) -> None:
        reasons: list[tuple[str, object]] = [*skips.items(), *expected_failures.items()]
        for id_, reason in reasons:
            find(id_)
            if not isinstance(reason, str) or not reason.strip():
                raise ContractError(f"no reason is given for leaving out {id_}", remedy="Say why; the report shows it.")
        for id_ in skips:
            if find(id_).base:
                raise ContractError(
                    f"the rule {id_} holds for every backend, and cannot be skipped",
                    remedy="Mend the backend, or name the rule among the expected failures, which the report shows.",
                )
        self._skips = skips
        self._expected = expected_failures

    def run(self, rule: Rule, target: Target | CodecTarget, seed: str) -> Outcome:
        """Run a rule, unless it is to be skipped."""
        if rule.id in self._skips:
            return Outcome(rule, Status.SKIPPED, self._skips[rule.id])
        outcome = run_rule(rule, target, seed)
        if rule.id not in self._expected:
            return outcome
        if outcome.status is Status.FAILED:
            reason = f"{self._expected[rule.id]} ({outcome.reason})"
            return Outcome(rule, Status.EXPECTED, reason, outcome.seconds, outcome.error)
        what = f"it was expected to fail ({self._expected[rule.id]}), and it {outcome.status.value}"
        error = ContractError(f"{rule.id}: {what}", remedy="Take it out of the expected failures.")
        return Outcome(rule, Status.FAILED, what, outcome.seconds, error)


def run_contract(
    url: str | Target,
    *,
    roles: Sequence[str] | None = None,
    rules: Sequence[str] | None = None,
    unreachable_url: str | None = None,
    lease: float = LEASE,
    grace: float = GRACE,
    preload: Sequence[str] = (),
    skips: Mapping[str, str] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    seed: str | None = None,
    progress: Progress = lambda outcome: None,
) -> Report:
    """Test the backend behind a URL.

    Args:
        url: The URL; or a `Target`, which then has the arguments from `unreachable_url` to `preload`.
        roles: Some of queue, store, cache and backend; all that its manifest offers unless given.
        rules: Ids of the rules to run, for work on one of them; the report is then not complete.
        unreachable_url: A URL of the same scheme behind which nothing answers.
        lease: The lease, in seconds, for rules that wait for one to run out.
        grace: Seconds that the backend may need beyond what a rule computes.
        preload: Modules that other processes import before they open the URL.
        skips: Rule id to reason; only rules that need a capability may stand there.
        expected_failures: Rule id to reason; such a rule must fail.
        seed: Repeats a run; unless given, from `BRRR_CONTRACT_SEED`, or a new one.
        progress: Called with each outcome as it comes.

    Raises:
        ContractError: A role, a rule or a reason is not one; or a role is asked for that the manifest does not offer.
        BrrrError: The URL cannot be read, or its plugin cannot be used.
    """
    target = url
    if not isinstance(target, Target):
        target = Target.at(url, unreachable_url=unreachable_url, lease=lease, grace=grace, preload=tuple(preload))
    asked = [role for role in ("queue", "store", "cache", "backend") if target.offers(role)]
    for role in roles or ():
        rules_of(role)
        if role not in asked:
            raise ContractError(f"{target.name} offers no {role}", remedy=f"It offers {', '.join(asked)}.")
    every = [rule for role in asked if roles is None or role in roles for rule in rules_of(role)]
    judge = Judge(skips or {}, expected_failures or {})
    return _report(target, every, ids=rules, judge=judge, seed=seed, progress=progress)


def run_codec_contract(
    codec: str | Codec,
    *,
    rules: Sequence[str] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    seed: str | None = None,
    progress: Progress = lambda outcome: None,
) -> Report:
    """Test a codec, by its name or as an object. The arguments and errors are those of `run_contract`."""
    target = CodecTarget.of(codec)
    judge = Judge({}, expected_failures or {})
    return _report(target, rules_of("codec"), ids=rules, judge=judge, seed=seed, progress=progress)


def _report(
    target: Target | CodecTarget,
    every: list[Rule],
    *,
    ids: Sequence[str] | None,
    judge: Judge,
    seed: str | None,
    progress: Progress,
) -> Report:
    chosen = every
    if ids is not None:
        wanted = {find(id_).id for id_ in ids}
        chosen = [rule for rule in every if rule.id in wanted]
        if len(chosen) < len(wanted):
            other = wanted - {rule.id for rule in chosen}
            raise ContractError(f"no role that is tested has {', '.join(sorted(other))}", remedy="Ask for its role.")
    seed = seed or new_seed()
    outcomes: list[Outcome] = []
    for rule in chosen:
        outcomes.append(judge.run(rule, target, seed))
        progress(outcomes[-1])
    return Report(target.name, seed, outcomes, complete=len(chosen) == len(every))


def new_seed() -> str:
    """The seed of a run: the one that is to be repeated, or a new one."""
    return os.environ.get(SEED) or token_hex(4)


def run_rule(rule: Rule, target: Target | CodecTarget, seed: str) -> Outcome:
    """Run one rule, in an event loop of its own; again where this machine was too busy for a verdict."""
    begun = time.monotonic()
    if isinstance(target, Target) and (excuse := target.excuse(rule)):
        return Outcome(rule, Status.NOT_APPLICABLE, excuse)
    what = f"{TRIES} times this machine was too busy to settle a delivery within its lease"
    outcome = Outcome(rule, Status.FAILED, what, error=ContractError(what, remedy="Give a longer `lease`."))
    for _ in range(TRIES):
        pulse = Pulse(STALL * (target.lease if isinstance(target, Target) else math.inf))
        ended = _run_once(rule, target, seed, pulse)
        outcome = ended or outcome
        if ended is not None and not (ended.status is Status.FAILED and pulse.stalled):
            break
    return replace(outcome, seconds=time.monotonic() - begun)


def _run_once(rule: Rule, target: Target | CodecTarget, seed: str, pulse: Pulse) -> Outcome | None:
    """Run one rule; None where nothing can be said."""
    try:
        with watched() as loose, asyncio.Runner(loop_factory=loose.new_loop) as runner:
            runner.run(_run(rule, target, f"{seed} {rule.id}", pulse))
    except NotApplicableError as excuse:
        return Outcome(rule, Status.NOT_APPLICABLE, str(excuse))
    except StalledError:
        return None
    except Exception as caught:  # noqa: BLE001 - a backend can raise anything, and the report says what
        error = _telling(caught)
        error.add_note(f"{rule.id}: {rule.demand}")
        error.add_note(f"{rule.page}; {SEED}={seed} repeats it")
        reason = getattr(error, "what", "") or f"{type(error).__name__}: {error}"
        return Outcome(rule, Status.FAILED, f"{reason} (seed {seed})", error=error)
    return Outcome(rule, Status.PASSED)


def _telling(error: Exception) -> Exception:
    """Of a group of errors the one that says what is wrong: what a rule says, or else the first."""
    if not isinstance(error, ExceptionGroup):
        return error
    group: ExceptionGroup[Exception] = error  # pyright: ignore[reportUnknownVariableType]
    leaves = [_telling(each) for each in group.exceptions]
    return next((each for each in leaves if isinstance(each, RuleBrokenError)), leaves[0])


async def _run(rule: Rule, target: Target | CodecTarget, seed: str, pulse: Pulse) -> None:
    seconds = rule.limit
    if isinstance(target, Target):
        seconds *= max(1.0, target.grace / GRACE)
    limit = asyncio.timeout(seconds)
    try:
        async with limit, pulse:
            await _in_context(rule, target, seed)
    except TimeoutError as error:
        if not limit.expired():
            raise
        broken(f"the rule did not end within {seconds:g} s", cause=error)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        broken("an operation that nobody had cancelled raised a CancelledError", cause=error)
    left = other_tasks()
    if left:
        broken(f"tasks are pending after the backend was closed: {sorted(task.get_name() for task in left)}")


async def _in_context(rule: Rule, target: Target | CodecTarget, seed: str) -> None:
    context: Any
    if isinstance(target, CodecTarget):
        await rule.run(CodecContext(target, seed))
        return
    if rule.pair and not target.shared(rule.role) and not await share(target):
        raise NotApplicableError("two backends on this URL share nothing, and `shared` is not declared")
    async with Context(target, seed) as context:
        await rule.run(context)
