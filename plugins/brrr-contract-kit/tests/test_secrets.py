"""The kit shows no secret of the URL that it tests, however badly the backend behaves."""

import subprocess
import sys
from pathlib import Path

import pytest
from pytest_runs import Run

HERE = Path(__file__).parent
SECRET = "kit-pass@word"
CASES = """
import leaky

class TestCache(CacheContract):
    @pytest.fixture(params=["{scheme}://user:kit-pass%40word@localhost:1/x"])
    def url(self, request):
        return request.param
"""


def hides_the_secret(ran: "subprocess.CompletedProcess[str]") -> bool:
    said = ran.stdout + ran.stderr
    return "kit-pass" not in said and "****" in said


@pytest.mark.parametrize(
    "options",
    [["-l", "--tb=long", "-v"], ["-l", "--tb=long", "-v", "-n", "2"], ["--tb=native"], ["-l", "--tb=short"], ["-vv"]],
    ids=" ".join,
)
def test_failing_rules_show_no_secret_under_pytest(run: Run, options: list[str]) -> None:
    ran = run(CASES.format(scheme="leaky"), *options, path=HERE)

    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout
    assert "cannot connect to" in ran.stdout
    assert hides_the_secret(ran), ran.stdout


@pytest.mark.parametrize("url", ["nowhere://user:kit-pass@localhost", "leaky://user:kit-pass@@localhost"])
def test_url_that_cannot_be_opened_shows_no_secret_under_pytest(run: Run, url: str) -> None:
    code = f"import leaky\nclass TestCache(CacheContract):\n    @pytest.fixture\n    def url(self): return {url!r}\n"

    ran = run(code, "-l", "--tb=long", "-v", path=HERE)

    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout
    assert hides_the_secret(ran), ran.stdout


@pytest.mark.parametrize("scheme", ["leaky", "refused"])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_reports_show_no_secret(scheme: str, jobs: str, tmp_path: Path) -> None:
    code = """
import sys
from brrr_contract_kit import run_contract
import leaky
report = run_contract(sys.argv[1], roles=["cache"], jobs=int(sys.argv[2]), preload=["leaky"], seed="s")
print(report.text(), report.json(), report, report.error)
"""
    url = f"{scheme}://user:kit-pass%40word@localhost:1/x"

    ran = subprocess.run(
        [sys.executable, "-c", code, url, jobs],
        env={"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert ran.returncode == 0, ran.stderr
    assert "kit-pass" not in ran.stdout
    assert "****" in ran.stdout
