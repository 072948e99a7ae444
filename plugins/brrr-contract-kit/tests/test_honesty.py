"""Loopholes that the kit closes. Each test covers a loophole of another conformance kit."""

import re
from typing import Any

import pytest
from mutants.kit import MEMORY, applicable
from pytest_runs import Run

from brrr_contract_kit.registry import declares
from brrr_contract_kit.rules import rules_of

EVERY = len(rules_of("cache"))
PASSED = applicable("cache", pairs=True)
UNDECLARED = len([rule for rule in rules_of("cache") if rule.needs and not declares(MEMORY, rule.needs)])
COUNT = len([rule for rule in rules_of("cache") if rule.family == "CACHE-COUNT"])
"""The rules of a cache: all, those that memory passes, those for capabilities that it lacks, and those of a family."""


def first_quick(*cases: Any) -> list[Any]:
    """Return the cases of a test, of which a quick run tries the first."""
    return [
        cases[0],
        *(
            pytest.param(*(each if isinstance(each, tuple) else (each,)), marks=pytest.mark.exhaustive)
            for each in cases[1:]
        ),
    ]


CACHE = "class TestCache(Memory, CacheContract): pass\n"


@pytest.mark.parametrize(
    "options",
    first_quick(["-p", "no:asyncio"], ["-o", "asyncio_mode=auto"], ["-n", "2"], ["-W", "error", "-p", "no:asyncio"]),
)
def test_one_class_with_one_fixture_runs_all_rules(run: Run, options: list[str]) -> None:
    ran = run(CACHE, *options)

    assert ran.returncode == 0, ran.stdout
    assert f"{PASSED} passed, {EVERY - PASSED} skipped" in ran.stdout
    assert "not applicable: the manifest does not declare cache.shared" in ran.stdout


def test_contract_class_is_collected_under_any_name(run: Run) -> None:
    assert f"{PASSED} passed" in run("class Counters(Memory, CacheContract): pass\n").stdout


def test_base_classes_of_the_kit_are_not_collected(run: Run) -> None:
    assert run("").returncode == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize(
    "options", first_quick(["-k", "not COUNT"], ["-k", "nothing_of_it"], ["-k", "nothing_of_it", "-n", "2"])
)
def test_deselected_rules_fail_the_run(run: Run, options: list[str]) -> None:
    ran = run(CACHE + "def test_other(): pass\n", *options)

    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout
    assert "TestCache omits" in ran.stdout
    assert "CACHE-COUNT-01" in ran.stdout


def test_partial_run_says_that_it_is_partial(run: Run) -> None:
    ran = run(CACHE, "-k", "COUNT", partial=True)

    assert ran.returncode == 0, ran.stdout
    assert f"a partial run: TestCache omits {EVERY - COUNT} rules" in ran.stdout


@pytest.mark.parametrize(
    "code",
    first_quick(
        "class TestCache(CacheContract):\n    @pytest.fixture\n    def url(self): pytest.skip('no server')\n",
        "@pytest.mark.skip(reason='later')\nclass TestCache(Memory, CacheContract): pass\n",
        "@pytest.mark.xfail(reason='later', run=False)\nclass TestCache(Memory, CacheContract): pass\n",
        "@pytest.mark.xfail(reason='later')\nclass TestCache(Memory, CacheContract): grace = 'none'\n",
    ),
    ids=["skip in a fixture", "skip mark", "xfail mark without a run", "xfail mark"],
)
def test_rules_bypassed_by_marks_or_fixtures_fail(run: Run, code: str) -> None:
    ran = run(code)

    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout
    ended = f"{EVERY} errors|{EVERY - UNDECLARED} failed, {UNDECLARED} skipped"
    assert re.search(f"^({ended}) in", ran.stdout, re.MULTILINE), ran.stdout
    assert "A mark or a fixture bypasses CACHE-" in ran.stdout


def attributes(text: str) -> str:
    return f"class TestCache(Memory, CacheContract):\n    {text}\n"


@pytest.mark.parametrize(
    ("text", "error"),
    first_quick(
        ("skips = {'CACHE-COUNT-01': 'slow'}", "applies to every backend and cannot be skipped"),
        ("skips = {'CACHE-RACE-03': ' '}", "is excepted without a reason"),
        ("skips = {'CACHE-RACE-033': 'slow'}", "Did you mean CACHE-RACE-03?"),
        ("expected_failures = {'CACHE-CONT-01': 'known'}", "Did you mean CACHE-COUNT-01?"),
        ("expected_failures = {'CACHE-COUNT-01': ''}", "is excepted without a reason"),
        ("expected_failures = {'QUEUE-ACK-01': 'known'}", "is not a rule for a cache"),
        ("def test_rule(self): pass", "replaces test_rule of the contract"),
    ),
)
def test_invalid_skips_and_overrides_are_reported_at_collection(run: Run, text: str, error: str) -> None:
    ran = run(attributes(text))

    assert ran.returncode == pytest.ExitCode.INTERRUPTED, ran.stdout
    assert error in ran.stdout


def test_skipped_capability_rule_is_reported(run: Run) -> None:
    ran = run(attributes("skips = {'CACHE-RACE-03': 'no processes here'}"))

    assert ran.returncode == 0
    assert "skipped: no processes here" in ran.stdout


def test_expected_failure_that_passes_fails_the_run(run: Run) -> None:
    ran = run(attributes("expected_failures = {'CACHE-COUNT-01': 'known'}"))

    assert f"1 failed, {PASSED - 1} passed" in ran.stdout
    assert "expected to fail (known), but passed" in ran.stdout


def test_expected_failure_is_reported_with_its_reason(run: Run) -> None:
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
        "        return lambda: NoSetup(BackendUrl('memory'))\n",
        "-k",
        "OPEN",
        partial=True,
    )

    assert ran.returncode == 0, ran.stdout
    assert "1 xfailed" in ran.stdout
    assert "known (the types in the result of `setup`" in ran.stdout


@pytest.mark.parametrize(
    ("fixture", "error"),
    first_quick(
        ("def url(self): return object()", "the URL to test is a object"),
        ("def make_backend(self): return object()", "make_backend is a object, not a function"),
        ("def make_backend(self): return object", "make_backend returned a object, not a Backend"),
        ("def other(self): return 'memory:'", "gives neither a url nor a make_backend"),
        ("def url(self): return 'memry:'", "Did you mean 'memory'?"),
    ),
)
def test_invalid_backend_fixture_is_reported(run: Run, fixture: str, error: str) -> None:
    ran = run(f"class TestCache(CacheContract):\n    @pytest.fixture\n    {fixture}\n")

    assert ran.returncode == pytest.ExitCode.TESTS_FAILED
    assert f"1 failed, {EVERY - 1} skipped" in ran.stdout
    assert error in ran.stdout


def test_failure_shows_rule_page_and_seed(run: Run) -> None:
    ran = run(
        "class TestJson(CodecContract):\n"
        "    from brrr_core.codec.json import JsonCodec\n"
        "    class Constant(JsonCodec):\n"
        "        def encode_call(self, *call):\n"
        "            return super().encode_call(*call)._replace(call_hash='same')\n"
        "    codec = Constant()\n"
    )

    assert "two calls have one hash" in ran.stdout
    assert "CODEC-HASH-04: Different calls have different hashes" in ran.stdout
    assert "docs/contract/codec-hash.md#codec-hash-04; BRRR_CONTRACT_SEED=" in ran.stdout
