"""What the kit cannot be talked into: each of these was a hole in some kit of the field."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import pytest
from brrr_core.contract import BackendContract, CacheContract, CodecContract, QueueContract, StoreContract

class Memory:
    @pytest.fixture
    def url(self):
        return "memory:honest"
"""

LEFT_OUT = [f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "valkey")]
"""Plugins that take longer to import than a run takes, and have nothing to do with the kit."""


class Run:
    """A pytest of its own, in a folder far from the checkout's configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, code: str, *arguments: str, partial: bool = False) -> subprocess.CompletedProcess[str]:
        (self.folder / "test_kit.py").write_text(HEAD + code)
        command = [sys.executable, "-m", "pytest", "-q", "-ra", *LEFT_OUT, *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env={"BRRR_CONTRACT_PARTIAL": "1"} if partial else {},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


CACHE = "class TestCache(Memory, CacheContract): pass\n"


@pytest.mark.parametrize(
    "options", [["-p", "no:asyncio"], ["-o", "asyncio_mode=auto"], ["-n", "2"], ["-W", "error", "-p", "no:asyncio"]]
)
def test_one_class_with_one_fixture_is_all_that_it_takes(run: Run, options: list[str]) -> None:
    ran = run(CACHE, *options)

    assert ran.returncode == 0, ran.stdout
    assert "6 passed, 2 skipped" in ran.stdout
    assert "not applicable: the manifest does not declare cache.shared" in ran.stdout


def test_a_class_is_collected_whatever_its_name_is(run: Run) -> None:
    assert "6 passed" in run("class Counters(Memory, CacheContract): pass\n").stdout


def test_the_kit_s_own_classes_are_no_tests(run: Run) -> None:
    assert run("").returncode == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize("options", [["-k", "not COUNT"], ["-k", "nothing_of_it"], ["-k", "nothing_of_it", "-n", "2"]])
def test_rules_that_are_deselected_are_a_failure(run: Run, options: list[str]) -> None:
    ran = run(CACHE + "def test_other(): pass\n", *options)

    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout
    assert "TestCache leaves out" in ran.stdout
    assert "CACHE-COUNT-01" in ran.stdout


def test_a_partial_run_says_so(run: Run) -> None:
    ran = run(CACHE, "-k", "COUNT", partial=True)

    assert ran.returncode == 0, ran.stdout
    assert "a partial run: TestCache leaves out 5 rules" in ran.stdout


@pytest.mark.parametrize(
    "code",
    [
        "class TestCache(CacheContract):\n    @pytest.fixture\n    def url(self): pytest.skip('no server')\n",
        "@pytest.mark.skip(reason='later')\nclass TestCache(Memory, CacheContract): pass\n",
        "@pytest.mark.xfail(reason='later', run=False)\nclass TestCache(Memory, CacheContract): pass\n",
        "@pytest.mark.xfail(reason='later')\nclass TestCache(Memory, CacheContract): grace = 'none'\n",
    ],
    ids=["skip in a fixture", "skip mark", "xfail mark without a run", "xfail mark"],
)
def test_rules_that_are_waved_through_are_failures(run: Run, code: str) -> None:
    ran = run(code)

    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout
    assert re.search("^(8 errors|6 failed, 2 skipped) in", ran.stdout, re.MULTILINE), ran.stdout
    assert "is waved through by a mark or a fixture" in ran.stdout


def attributes(text: str) -> str:
    return f"class TestCache(Memory, CacheContract):\n    {text}\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("skips = {'CACHE-COUNT-01': 'slow'}", "holds for every backend, and cannot be skipped"),
        ("skips = {'CACHE-RACE-03': ' '}", "no reason is given"),
        ("skips = {'CACHE-RACE-30': 'slow'}", "Did you mean CACHE-RACE-03?"),
        ("expected_failures = {'CACHE-CONT-01': 'known'}", "Did you mean CACHE-COUNT-01?"),
        ("expected_failures = {'CACHE-COUNT-01': ''}", "no reason is given"),
        ("expected_failures = {'QUEUE-ACK-01': 'known'}", "is no rule for a cache"),
        ("def test_rule(self): pass", "replaces test_rule of the contract"),
    ],
)
def test_what_cannot_be_left_out_is_told_when_it_is_collected(run: Run, text: str, error: str) -> None:
    ran = run(attributes(text))

    assert ran.returncode == pytest.ExitCode.INTERRUPTED, ran.stdout
    assert error in ran.stdout


def test_a_rule_that_needs_a_capability_may_be_skipped_and_shows(run: Run) -> None:
    ran = run(attributes("skips = {'CACHE-RACE-03': 'no processes here'}"))

    assert ran.returncode == 0
    assert "skipped: no processes here" in ran.stdout


def test_an_expected_failure_must_fail(run: Run) -> None:
    ran = run(attributes("expected_failures = {'CACHE-COUNT-01': 'known'}"))

    assert "1 failed, 5 passed" in ran.stdout
    assert "it was expected to fail (known), and it passed" in ran.stdout


def test_an_expected_failure_shows(run: Run) -> None:
    ran = run(
        "class TestBackend(BackendContract):\n"
        "    expected_failures = {'BACKEND-OPEN-08': 'known'}\n"
        "    @pytest.fixture\n"
        "    def make_backend(self):\n"
        "        from brrr_core.backend.memory import MemoryBackend\n"
        "        from brrr_core.backend import BackendUrl\n"
        "        from brrr_core.plugins.builtin import MEMORY\n"
        "        class NoSetup(MemoryBackend):\n"
        "            manifest = MEMORY\n"
        "            async def setup(self): return 'done'\n"
        "        return lambda: NoSetup(BackendUrl('memory'))\n"
    )

    assert ran.returncode == 0, ran.stdout
    assert "1 xfailed" in ran.stdout
    assert "known (the types of what `setup` gives" in ran.stdout


@pytest.mark.parametrize(
    ("fixture", "error"),
    [
        ("def url(self): return object()", "the URL to test is a object"),
        ("def make_backend(self): return object()", "make_backend is a object and no function"),
        ("def make_backend(self): return object", "make_backend made a object and no Backend"),
        ("def other(self): return 'memory:'", "gives neither a url nor a make_backend"),
        ("def url(self): return 'memry:'", "Did you mean 'memory'?"),
    ],
)
def test_a_fixture_that_is_no_backend_is_told(run: Run, fixture: str, error: str) -> None:
    ran = run(f"class TestCache(CacheContract):\n    @pytest.fixture\n    {fixture}\n")

    assert ran.returncode == pytest.ExitCode.TESTS_FAILED
    assert "8 failed" in ran.stdout
    assert error in ran.stdout


def test_a_failure_shows_its_rule_its_page_and_its_seed(run: Run) -> None:
    ran = run(
        "class TestJson(CodecContract):\n"
        "    from brrr_core.codec.json import JsonCodec\n"
        "    class Constant(JsonCodec):\n"
        "        def encode_call(self, *call):\n"
        "            from dataclasses import replace\n"
        "            return replace(super().encode_call(*call), call_hash='same')\n"
        "    codec = Constant()\n"
    )

    assert "two calls have one hash" in ran.stdout
    assert "CODEC-HASH-04: Different calls have different hashes" in ran.stdout
    assert "docs/contract/codec-hash.md#codec-hash-04; BRRR_CONTRACT_SEED=" in ran.stdout
