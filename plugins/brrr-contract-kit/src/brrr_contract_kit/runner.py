"""Run the rules of a backend or a codec, and judge their outcomes."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from secrets import token_hex

from brrr_contract_kit.execution import SEED, masked, run_rule
from brrr_contract_kit.jobs import run_in_processes
from brrr_contract_kit.preflight import preflight
from brrr_contract_kit.registry import ROLES, Role, Rule
from brrr_contract_kit.report import Outcome, Report, Status
from brrr_contract_kit.rules import all_rules, find, rules_of
from brrr_contract_kit.target import GRACE, LEASE, Target
from brrr_contract_kit.testbed.codecs import CodecTarget
from brrr_core.codec import Codec
from brrr_core.errors import BrrrError, ContractError

__all__ = ["Judge", "new_seed", "run_codec_contract", "run_contract"]

Progress = Callable[[Outcome], None]


class Judge:
    """Knows the rules that may be skipped or fail, and judges the outcome of a rule.

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
                raise ContractError(f"{id_} is excepted without a reason", remedy="Give a reason: the report shows it.")
        for id_ in skips:
            if find(id_).base:
                raise ContractError(
                    f"the rule {id_} applies to every backend and cannot be skipped",
                    remedy="Fix the backend, or name the rule in the expected failures, which the report shows.",
                )
        self._skips = skips
        self._expected = expected_failures

    def run(self, rule: Rule, target: Target | CodecTarget, seed: str) -> Outcome:
        """Run a rule unless it is skipped, and return the outcome."""
        return self.skipped(rule) or self.judged(run_rule(rule, target, seed))

    def skipped(self, rule: Rule) -> Outcome | None:
        """Return the outcome of a rule that is skipped, None for others."""
        return Outcome(rule, Status.SKIPPED, self._skips[rule.id]) if rule.id in self._skips else None

    def judged(self, outcome: Outcome) -> Outcome:
        """Return the outcome of a rule that was run, which may have been expected to fail."""
        rule = outcome.rule
        if rule.id not in self._expected:
            return outcome
        if outcome.status is Status.FAILED:
            reason = f"{self._expected[rule.id]} ({outcome.reason})"
            return replace(outcome, status=Status.EXPECTED, reason=reason)
        what = f"expected to fail ({self._expected[rule.id]}), but {outcome.status.value}"
        error = ContractError(f"{rule.id}: {what}", remedy="Remove it from the expected failures.")
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
    server: str | None = None,
    skips: Mapping[str, str] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    seed: str | None = None,
    setup: bool = False,
    jobs: int = 1,
    progress: Progress = lambda outcome: None,
) -> Report:
    """Test the backend behind a URL.

    The backend is opened and used once before the rules. If that fails, no rule is run, and the report has the error.

    Args:
        url: The URL; or a `Target`, which replaces the arguments from `unreachable_url` to `server`.
        roles: Some of queue, store, cache, steps and backend; by default all that the manifest offers.
        rules: Ids of the rules to run. The report is then not complete.
        unreachable_url: A URL of the same scheme behind which no server answers.
        lease: The lease in seconds for rules that wait until a lease expires.
        grace: Extra seconds that the backend may take.
        preload: Modules that other processes import before they open the URL.
        server: Host and port of the server, if the URL does not show them; several are separated by commas.
        skips: Rule id to reason; only rules that need a capability may be skipped.
        expected_failures: Rule id to reason; such a rule must fail.
        seed: The seed of an earlier run, to repeat it; by default `BRRR_CONTRACT_SEED` or a new one.
        setup: Run the backend's `setup` first.
        jobs: Processes that run rules at the same time. With 1, the rules run in this process. Others need a URL.
        progress: Called with each outcome when its rule ends.

    Raises:
        ContractError: A role or rule is unknown, a reason is missing, the manifest does not offer a role, or several
            jobs are given without a URL.
        BrrrError: The URL cannot be parsed, or its plugin cannot be used.
    """
    target = url
    if not isinstance(target, Target):
        target = Target.at(
            url, unreachable_url=unreachable_url, lease=lease, grace=grace, preload=tuple(preload), server=server
        )
    offered: list[Role] = [role for role in ROLES if role != "codec" and target.offers(role)]
    for role in roles or ():
        rules_of(role)
        if role not in offered:
            raise ContractError(f"{target.name} offers no {role}", remedy=f"Choose one of {', '.join(offered)}.")
    tested: list[Role] = [role for role in offered if roles is None or role in roles]
    every = [rule for role in tested for rule in rules_of(role)]
    chosen = _chosen(every, rules)
    judge = Judge(skips or {}, expected_failures or {})
    run = _Run(target.name, seed or new_seed(), judge, progress, complete=len(chosen) == len(every))
    if jobs > 1:
        target.address()
    try:
        preflight(target, tested, setup=setup)
    except BrrrError as error:
        return run.report(masked(error, target.mask))
    running = [rule for rule in chosen if not run.skip(rule)]
    if jobs > 1:
        asyncio.run(run_in_processes(running, target, run.seed, jobs=jobs, ended=run.add))
    else:
        run.all_of(running, target)
    return run.report()


def run_codec_contract(
    codec: str | Codec,
    *,
    rules: Sequence[str] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    seed: str | None = None,
    progress: Progress = lambda outcome: None,
) -> Report:
    """Test a codec, given as a name or an object. Arguments and errors are those of `run_contract`."""
    target = CodecTarget.of(codec)
    every = rules_of("codec")
    chosen = _chosen(every, rules)
    judge = Judge({}, expected_failures or {})
    run = _Run(target.name, seed or new_seed(), judge, progress, complete=len(chosen) == len(every))
    run.all_of(chosen, target)
    return run.report()


class _Run:
    """Collects the outcomes of a run."""

    def __init__(self, name: str, seed: str, judge: Judge, progress: Progress, *, complete: bool) -> None:
        self.seed = seed
        self._name = name
        self._judge = judge
        self._progress = progress
        self._complete = complete
        self._outcomes: list[Outcome] = []
        self._begun = time.monotonic()

    def skip(self, rule: Rule) -> bool:
        """Record the outcome of a rule that is skipped. Return whether it is."""
        skipped = self._judge.skipped(rule)
        if skipped is not None:
            self._append(skipped)
        return skipped is not None

    def all_of(self, rules: list[Rule], target: Target | CodecTarget) -> None:
        """Run rules one after another."""
        for rule in rules:
            self.add(run_rule(rule, target, self.seed))

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of a rule that was run."""
        self._append(self._judge.judged(outcome))

    def _append(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._progress(outcome)

    def report(self, error: BrrrError | None = None) -> Report:
        """Return the report, in the order of the rules."""
        order = {rule.id: number for number, rule in enumerate(all_rules())}
        outcomes = sorted(self._outcomes, key=lambda outcome: order[outcome.rule.id])
        complete, seconds = self._complete and error is None, time.monotonic() - self._begun
        return Report(self._name, self.seed, outcomes, complete=complete, error=error, seconds=seconds)


def _chosen(every: list[Rule], ids: Sequence[str] | None) -> list[Rule]:
    if ids is None:
        return every
    wanted = {find(id_).id for id_ in ids}
    chosen = [rule for rule in every if rule.id in wanted]
    if len(chosen) < len(wanted):
        other = wanted - {rule.id for rule in chosen}
        raise ContractError(
            f"the tested roles do not include {', '.join(sorted(other))}", remedy="Test the role of the rule, too."
        )
    return chosen


def new_seed() -> str:
    """Return the seed for a run: `BRRR_CONTRACT_SEED`, or a new one."""
    return os.environ.get(SEED) or token_hex(4)
