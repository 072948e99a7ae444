"""Run the rules of a backend or a codec, and judge which may be skipped or fail."""

import os
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex

from brrr_contract_kit.execution import SEED, run_rule
from brrr_contract_kit.registry import Rule
from brrr_contract_kit.report import Outcome, Report, Status
from brrr_contract_kit.rules import find, rules_of
from brrr_contract_kit.target import GRACE, LEASE, Target
from brrr_contract_kit.testbed.codecs import CodecTarget
from brrr_core.codec import Codec
from brrr_core.errors import ContractError

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
                raise ContractError(f"{id_} is excepted without a reason", remedy="Give a reason; the report shows it.")
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
        if rule.id in self._skips:
            return Outcome(rule, Status.SKIPPED, self._skips[rule.id])
        outcome = run_rule(rule, target, seed)
        if rule.id not in self._expected:
            return outcome
        if outcome.status is Status.FAILED:
            reason = f"{self._expected[rule.id]} ({outcome.reason})"
            return Outcome(rule, Status.EXPECTED, reason, outcome.seconds, outcome.error)
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
    skips: Mapping[str, str] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    seed: str | None = None,
    progress: Progress = lambda outcome: None,
) -> Report:
    """Test the backend behind a URL.

    Args:
        url: The URL; or a `Target`, which replaces the arguments from `unreachable_url` to `preload`.
        roles: Some of queue, store, cache, steps and backend; by default all that the manifest offers.
        rules: Ids of the rules to run. The report is then not complete.
        unreachable_url: A URL of the same scheme behind which no server answers.
        lease: The lease in seconds for rules that wait until a lease expires.
        grace: Extra seconds that the backend may take.
        preload: Modules that other processes import before they open the URL.
        skips: Rule id to reason; only rules that need a capability may be skipped.
        expected_failures: Rule id to reason; such a rule must fail.
        seed: The seed of an earlier run, to repeat it; by default `BRRR_CONTRACT_SEED` or a new one.
        progress: Called with each outcome when its rule ends.

    Raises:
        ContractError: A role or rule is unknown, a reason is missing, or the manifest does not offer a role.
        BrrrError: The URL cannot be parsed, or its plugin cannot be used.
    """
    target = url
    if not isinstance(target, Target):
        target = Target.at(url, unreachable_url=unreachable_url, lease=lease, grace=grace, preload=tuple(preload))
    asked = [role for role in ("queue", "store", "cache", "steps", "backend") if target.offers(role)]
    for role in roles or ():
        rules_of(role)
        if role not in asked:
            raise ContractError(f"{target.name} offers no {role}", remedy=f"Choose one of {', '.join(asked)}.")
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
    """Test a codec, given as a name or an object. Arguments and errors are those of `run_contract`."""
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
            raise ContractError(
                f"the tested roles do not include {', '.join(sorted(other))}", remedy="Test the role of the rule, too."
            )
    seed = seed or new_seed()
    outcomes: list[Outcome] = []
    for rule in chosen:
        outcomes.append(judge.run(rule, target, seed))
        progress(outcomes[-1])
    return Report(target.name, seed, outcomes, complete=len(chosen) == len(every))


def new_seed() -> str:
    """Return the seed for a run: `BRRR_CONTRACT_SEED`, or a new one."""
    return os.environ.get(SEED) or token_hex(4)
