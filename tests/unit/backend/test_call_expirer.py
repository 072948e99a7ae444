"""Call records expire in the background: no caller waits, and a failure of the store fails no caller."""

import asyncio
from collections.abc import Sequence

import pytest

from brrr_core.backend import CallExpirer, Key, expiry
from brrr_core.errors import BackendUnavailableError


class Recorder:
    """Keeps the batches of call hashes, each after `gate` is open."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def expire(self, calls: Sequence[Key]) -> None:
        self.batches.append([call.call_hash for call in calls])
        await self.gate.wait()
        if self.error is not None:
            raise self.error


def values(*hashes: str) -> list[Key]:
    return [Key("value", call_hash) for call_hash in hashes]


async def test_calls_of_values_expire_and_other_records_do_not() -> None:
    recorder = Recorder()
    expirer = CallExpirer(recorder.expire)
    expirer.add([*values("a", "brrr.wait/a/0"), Key("pending_returns", "b"), *values("c", "a")])
    await expirer.finish()
    assert recorder.batches == [["a", "c"]]


async def test_calls_added_during_a_batch_share_the_next_one() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    expirer = CallExpirer(recorder.expire)
    expirer.add(values("a"))
    await asyncio.sleep(0)
    expirer.add(values("b"))
    expirer.add(values("c"))
    recorder.gate.set()
    await expirer.finish()
    assert recorder.batches == [["a"], ["b", "c"]]


async def test_failure_of_the_store_does_not_keep_later_calls_from_expiring() -> None:
    recorder = Recorder()
    recorder.error = BackendUnavailableError("away")
    expirer = CallExpirer(recorder.expire)
    expirer.add(values("a"))
    await expirer.finish()
    expirer.add(values("b"))
    await expirer.finish()
    assert recorder.batches == [["a"], ["b"]]


async def test_close_waits_no_longer_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "CLOSE_TIMEOUT", 0.01)
    recorder = Recorder()
    recorder.gate.clear()
    expirer = CallExpirer(recorder.expire)
    expirer.add(values("a"))
    await expirer.close()
    assert recorder.batches == [["a"]]
    recorder.gate.set()
    await expirer.finish()


@pytest.mark.parametrize("nothing", [[], [Key("call", "a")]])
async def test_nothing_to_expire_starts_no_task(nothing: list[Key]) -> None:
    recorder = Recorder()
    expirer = CallExpirer(recorder.expire)
    before = asyncio.all_tasks()
    expirer.add(nothing)
    assert asyncio.all_tasks() == before
