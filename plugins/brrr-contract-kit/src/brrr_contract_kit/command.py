"""`brrr contract`: test a backend or a codec against the contract."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from traceback import format_exception
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

from brrr_cli.api import Count, DurationOption, ExitCode, LiveLines, Verbose, live_lines
from brrr_contract_kit.report import Outcome, Report, Status
from brrr_contract_kit.runner import new_seed, run_codec_contract, run_contract
from brrr_contract_kit.target import Target
from brrr_contract_kit.testbed.codecs import CodecTarget
from brrr_core.backend import Duration
from brrr_core.errors import CommandError

__all__ = ["contract"]

Many: TypeAlias = tuple[str, ...]

LEASE: Final = Duration(1)
GRACE: Final = Duration(5)
JOBS: Final = 4
STYLES: Final = {Status.PASSED: "green", Status.FAILED: "bold red", Status.EXPECTED: "yellow"}


def contract(
    url: Annotated[str | None, Parameter(help="The backend to test; omit it if you test a codec.")] = None,
    /,
    *,
    role: Annotated[Many, Parameter(negative=(), help="Test this role: queue, store, cache, steps, backend.")] = (),
    rule: Annotated[Many, Parameter(negative=(), help="Run only this rule; the report is then partial.")] = (),
    codec: Annotated[str | None, Parameter(help="Test this codec.")] = None,
    setup: Annotated[bool, Parameter(negative=(), help="First create what the backend needs, as brrr setup.")] = False,
    jobs: Annotated[Count, Parameter(help="The number of processes that run rules at the same time.")] = JOBS,
    repeat: Annotated[Count, Parameter(help="Run the rules up to this many times, until one fails.")] = 1,
    json: Annotated[Path | None, Parameter(help="Write the report as JSON to this file.")] = None,
    badge: Annotated[Path | None, Parameter(help="Write an SVG badge to this file.")] = None,
    unreachable: Annotated[str | None, Parameter(help="A URL of the scheme behind which no server answers.")] = None,
    lease: Annotated[DurationOption, Parameter(help="The lease for rules that wait until it expires.")] = LEASE,
    grace: Annotated[DurationOption, Parameter(help="The extra time that the backend may need.")] = GRACE,
    preload: Annotated[Many, Parameter(negative=(), help="Import this module first, in every process.")] = (),
    server: Annotated[str | None, Parameter(help="HOST:PORT of the server, if the URL does not show it.")] = None,
    expect_failure: Annotated[Many, Parameter(negative=(), help="A rule that must fail, as ID=REASON.")] = (),
    skip: Annotated[Many, Parameter(negative=(), help="A rule to skip, as ID=REASON.")] = (),
    seed: Annotated[str | None, Parameter(help="Repeat the run with this seed.")] = None,
    verbose: Verbose = False,
) -> ExitCode:
    """Test whether a backend or a codec follows the contract.

    The backend is opened and used once before the rules. Each rule has a line as soon as it ends: passed, failed,
    skipped or not applicable, with the reason. docs/contract/ explains each rule.
    """
    if (url is None) == (codec is None):
        raise CommandError(
            "no backend and no codec is named" if url is None else "both a backend and a codec are named",
            remedy="Give a URL like sqlite:///x.db, or --codec NAME.",
        )
    expected, rules = _reasons("--expect-failure", expect_failure), list(rule) or None
    for module in preload:
        import_module(module)
    run: Callable[..., Report]
    if url is None:
        name = CodecTarget.of(codec or "").name
        run = partial(run_codec_contract, codec or "", rules=rules, expected_failures=expected)
    else:
        target = Target.at(url, unreachable_url=unreachable, lease=lease, grace=grace, preload=preload, server=server)
        name, skips = target.name, _reasons("--skip", skip)
        run = partial(run_contract, target, roles=list(role) or None, rules=rules, jobs=jobs, setup=setup)
        run = partial(run, skips=skips, expected_failures=expected)
    with live_lines() as lines:
        report = _repeated(run, repeat, seed, _Lines(lines, name, verbose=verbose))
    if badge is not None:
        badge.write_text(report.badge(), encoding="utf-8")
    if json is not None:
        json.write_text(f"{report.json()}\n", encoding="utf-8")
    if report.error is not None:
        raise report.error
    return ExitCode.OK if report.ok else ExitCode.FAILURE


def _reasons(option: str, pairs: Many) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for pair in pairs:
        id_, equals, reason = pair.partition("=")
        if not equals or id_ in reasons:
            raise CommandError(
                f"{option} {pair} is not ID=REASON, or repeats a rule", remedy=f"Write {option} ID=REASON."
            )
        reasons[id_] = reason
    return reasons


class _Lines:
    """Writes a line for each rule; from the second repetition on, only for rules that fail."""

    def __init__(self, lines: LiveLines, name: str, *, verbose: bool) -> None:
        self._lines = lines
        self._name = name
        self._verbose = verbose
        self._first = True
        self._seed = ""
        self._ended = 0

    def begin(self, seed: str) -> None:
        """Begin a repetition. Its first rule writes the heading, because an error may prevent all rules."""
        self._seed = seed
        self._ended = 0

    def add(self, outcome: Outcome) -> None:
        """Write the line of a rule that has ended."""
        if self._first and not self._ended:
            self._lines.write(f"{self._name}, seed {self._seed}\n")
        self._ended += 1
        if self._first or outcome.status is Status.FAILED:
            self._lines.write(outcome.line, style=STYLES.get(outcome.status, ""))
        if self._verbose and outcome.status is Status.FAILED and outcome.error is not None:
            self._lines.write("".join(format_exception(outcome.error)).rstrip())
        self._lines.show(f"{self._ended} rules have ended")

    def end(self, report: Report, repeat: int) -> None:
        """End a repetition."""
        self._first = False
        if repeat > 1 and report.error is None:
            which = f"repetition {report.repetitions} of {repeat}, seed {report.seed}"
            self._lines.write(f"{which}: {report.counts} in {report.seconds:.1f} s")

    def finish(self, report: Report) -> None:
        """Write the end of the report."""
        if report.error is None:
            self._lines.write(report.ending())


def _repeated(run: Callable[..., Report], repeat: int, seed: str | None, lines: _Lines) -> Report:
    """Run the rules until a repetition fails, each time with a new seed unless one is given."""
    number = 0
    while True:
        number += 1
        lines.begin(seed_now := seed or new_seed())
        report = replace(run(seed=seed_now, progress=lines.add), repetitions=number)
        lines.end(report, repeat)
        if not report.ok or number == repeat:
            break
    lines.finish(report)
    return report
