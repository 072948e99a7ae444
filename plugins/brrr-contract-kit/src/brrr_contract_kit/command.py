"""`brrr contract`: test a backend or a codec against the contract."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

from brrr_cli.api import DurationOption, ExitCode, Verbose, note, write_line
from brrr_contract_kit.report import Outcome, Report
from brrr_contract_kit.runner import run_codec_contract, run_contract
from brrr_core.backend import Duration
from brrr_core.errors import CommandError

__all__ = ["contract"]

Many: TypeAlias = tuple[str, ...]

LEASE: Final = Duration(1)
GRACE: Final = Duration(5)


def contract(
    url: Annotated[str | None, Parameter(help="The backend to test; omit it if you test a codec.")] = None,
    /,
    *,
    role: Annotated[Many, Parameter(negative=(), help="Test this role: queue, store, cache, steps, backend.")] = (),
    rule: Annotated[Many, Parameter(negative=(), help="Run only this rule; the report is then partial.")] = (),
    codec: Annotated[str | None, Parameter(help="Test this codec.")] = None,
    json: Annotated[Path | None, Parameter(help="Write the report as JSON to this file.")] = None,
    badge: Annotated[Path | None, Parameter(help="Write an SVG badge to this file.")] = None,
    unreachable: Annotated[str | None, Parameter(help="A URL of the scheme behind which no server answers.")] = None,
    lease: Annotated[DurationOption, Parameter(help="The lease for rules that wait until it expires.")] = LEASE,
    grace: Annotated[DurationOption, Parameter(help="The extra time that the backend may need.")] = GRACE,
    preload: Annotated[Many, Parameter(negative=(), help="Import this module first, in every process.")] = (),
    expect_failure: Annotated[Many, Parameter(negative=(), help="A rule that must fail, as ID=REASON.")] = (),
    skip: Annotated[Many, Parameter(negative=(), help="A rule to skip, as ID=REASON.")] = (),
    seed: Annotated[str | None, Parameter(help="Repeat the run with this seed.")] = None,
    verbose: Verbose = False,
) -> ExitCode:
    """Test whether a backend or a codec follows the contract.

    The report has a line for each rule: passed, failed, skipped or not applicable, with the reason. docs/contract/
    explains each rule.
    """
    if (url is None) == (codec is None):
        raise CommandError(
            "no backend and no codec is named" if url is None else "both a backend and a codec are named",
            remedy="Give a URL like sqlite:///x.db, or --codec NAME.",
        )

    def progress(outcome: Outcome) -> None:
        if verbose:
            note(f"{outcome.rule.id} {outcome.status.value} {outcome.seconds:.2f} s")

    expected, rules = _reasons("--expect-failure", expect_failure), list(rule) or None
    for module in preload:
        import_module(module)
    if url is None:
        report = run_codec_contract(codec or "", rules=rules, expected_failures=expected, seed=seed, progress=progress)
    else:
        report = run_contract(
            url,
            roles=list(role) or None,
            rules=rules,
            unreachable_url=unreachable,
            lease=lease,
            grace=grace,
            preload=preload,
            skips=_reasons("--skip", skip),
            expected_failures=expected,
            seed=seed,
            progress=progress,
        )
    _write(report, json, badge)
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


def _write(report: Report, json: Path | None, badge: Path | None) -> None:
    if badge is not None:
        badge.write_text(report.badge(), encoding="utf-8")
    if json is not None:
        json.write_text(f"{report.json()}\n", encoding="utf-8")
    write_line(report.text())
