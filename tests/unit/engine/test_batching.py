"""The batcher: one batch at a time, with all requests that arrived meanwhile. A failure fails only its own requests."""

import asyncio
import sys
from collections.abc import Sequence

import pytest

from brrr_core.engine.batching import BATCH_LIMIT, DIRECT_AFTER, Batcher
from brrr_core.errors import BackendClosedError, BackendUnavailableError

EAGER = pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks from Python 3.12 on")


class Backend:
    """Doubles numbers, a batch at a time, when the gate is open."""

    def __init__(self, *, poison: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()
        self.under_way = 0
        self.most = 0
        self.poison = poison
        self.task: asyncio.Task[object] | None = None
        self.failure: Exception = ValueError("poison")

    async def run(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.begun.set()
        self.task = asyncio.current_task()
        try:
            await self.gate.wait()
            if self.poison in items:
                raise self.failure
            return [2 * item for item in items]
        finally:
            self.under_way -= 1


async def test_requests_of_one_turn_share_a_batch() -> None:
    backend = Backend()
    batcher = Batcher(backend.run)

    answers = await asyncio.gather(*(batcher.submit([n, -n]) for n in range(5)))

    assert answers == [[2 * n, -2 * n] for n in range(5)]
    assert len(backend.batches) == 1


@EAGER
async def test_batcher_shares_batches_under_an_eager_task_factory() -> None:
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    backend = Backend()
    batcher = Batcher(backend.run)

    for start in (0, 10):
        asked = [batcher.submit([n]) for n in range(start, start + 3)]
        assert await asyncio.gather(*asked) == [[2 * n] for n in range(start, start + 3)]

    assert backend.batches == [[0, 1, 2], [10, 11, 12]]


async def test_requests_during_a_batch_share_the_next_one() -> None:
    backend = Backend()
    backend.gate.clear()
    batcher = Batcher(backend.run)
    first = batcher.submit([1])
    await backend.begun.wait()

    later = [batcher.submit([n]) for n in (2, 3)]
    await asyncio.sleep(0)
    later.append(batcher.submit([4]))
    backend.gate.set()

    assert await asyncio.gather(first, *later) == [[2], [4], [6], [8]]
    assert backend.batches == [[1], [2, 3, 4]]
    assert backend.most == 1


async def test_empty_request_does_not_reach_the_backend() -> None:
    backend = Backend()
    assert await Batcher(backend.run).submit([]) == []
    assert backend.batches == []


async def test_requests_share_a_batch_up_to_its_limit() -> None:
    backend = Backend()
    batcher = Batcher(backend.run, limit=5)

    answers = await asyncio.gather(*(batcher.submit([n] * 2) for n in range(5)))

    assert answers == [[2 * n] * 2 for n in range(5)]
    assert [len(batch) for batch in backend.batches] == [4, 4, 2]


async def test_request_over_the_limit_is_split_and_gets_all_its_results() -> None:
    backend = Backend()
    batcher = Batcher(backend.run, limit=4)

    large, small = await asyncio.gather(batcher.submit(range(10)), batcher.submit([100]))

    assert large == [2 * n for n in range(10)]
    assert small == [200]
    assert [len(batch) for batch in backend.batches] == [4, 4, 2, 1]


async def test_default_spawn_limit() -> None:
    backend = Backend()
    await Batcher(backend.run).submit(range(BATCH_LIMIT + 1))
    assert [len(batch) for batch in backend.batches] == [BATCH_LIMIT, 1]


async def test_only_the_request_with_the_bad_item_fails() -> None:
    backend = Backend(poison=3)
    batcher = Batcher(backend.run)

    answers = await asyncio.gather(*(batcher.submit([n]) for n in range(6)), return_exceptions=True)

    assert [answer for n, answer in enumerate(answers) if n != 3] == [[0], [2], [4], [8], [10]]
    assert answers[3] is backend.failure
    assert backend.batches == [[0, 1, 2, 3, 4, 5], [0], [1], [2], [3], [4], [5]]


@pytest.mark.parametrize("error", [BackendUnavailableError("gone"), BackendClosedError("closed")], ids=repr)
async def test_unavailable_backend_fails_all_requests_of_the_batch_without_a_retry(error: Exception) -> None:
    backend = Backend(poison=3)
    backend.failure = error
    batcher = Batcher(backend.run)

    answers = await asyncio.gather(*(batcher.submit([n]) for n in range(6)), return_exceptions=True)

    assert answers == [error] * 6
    assert len(backend.batches) == 1
    assert await batcher.submit([7]) == [14]  # the next batch is tried


async def test_cancelled_request_does_not_affect_the_others_of_its_batch() -> None:
    backend = Backend()
    backend.gate.clear()
    batcher = Batcher(backend.run)

    async def ask(n: int) -> list[int]:
        return await batcher.submit([n])

    tasks = [asyncio.create_task(ask(n)) for n in range(3)]
    await backend.begun.wait()
    tasks[1].cancel()
    await asyncio.wait({tasks[1]})
    backend.gate.set()

    assert [await tasks[0], await tasks[2]] == [[0], [4]]
    assert tasks[1].cancelled()


async def test_close_waits_for_all_requests() -> None:
    backend = Backend()
    backend.gate.clear()
    batcher = Batcher(backend.run)
    first = batcher.submit([1])
    await backend.begun.wait()
    second = batcher.submit([2])
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0)
    assert not closing.done()

    backend.gate.set()
    await closing

    assert (first.result(), second.result()) == ([2], [4])
    await batcher.close()  # again does nothing


@pytest.mark.parametrize("turns", [0, 1, 2], ids=["before it begins", "as it begins", "under way"])
async def test_cancelled_batch_task_fails_every_request(turns: int) -> None:
    backend = Backend()
    backend.gate.clear()
    batcher = Batcher(backend.run)
    asks = [batcher.submit([1])]
    for _ in range(turns):
        await asyncio.sleep(0)
    asks.append(batcher.submit([2]))

    assert batcher._task is not None
    batcher._task.cancel()
    await asyncio.wait(asks)

    assert [type(ask.exception()) for ask in asks] == [BackendClosedError] * 2


async def test_request_after_a_cancellation_from_outside_succeeds() -> None:
    backend = Backend()
    batcher = Batcher(backend.run)
    first = batcher.submit([1])
    assert batcher._task is not None
    batcher._task.cancel()
    await asyncio.wait({first})

    assert isinstance(first.exception(), BackendClosedError)
    assert await batcher.submit([3]) == [6]
    await batcher.close()


async def batcher_in_direct_mode(backend: Backend, *, limit: int = BATCH_LIMIT) -> Batcher[int, int]:
    """Return a batcher whose last batches had one request each. The gate of its backend is closed."""
    batcher = Batcher(backend.run, limit=limit)
    for n in range(DIRECT_AFTER):
        assert await batcher.run([n]) == [2 * n]
        assert backend.task is not asyncio.current_task()
    backend.batches.clear()
    backend.begun.clear()
    backend.gate.clear()
    return batcher


async def test_single_request_runs_in_the_task_of_its_caller() -> None:
    backend = Backend()
    batcher = await batcher_in_direct_mode(backend)
    first = asyncio.create_task(batcher.run([1]))
    await backend.begun.wait()
    assert batcher.busy
    others = [batcher.submit([2]), asyncio.create_task(batcher.run([3]))]
    await asyncio.sleep(0)
    backend.gate.set()

    assert await first == [2]
    assert await asyncio.gather(*others) == [[4], [6]]

    assert backend.batches == [[1], [2, 3]]
    assert backend.most == 1
    assert not batcher.busy
    await batcher.run([4])
    assert backend.task is not asyncio.current_task(), "the last batch had company, so this one waits for it"


async def test_large_single_request_is_split() -> None:
    backend = Backend()
    batcher = await batcher_in_direct_mode(backend, limit=2)
    backend.gate.set()

    assert await batcher.run([1, 2, 3]) == [2, 4, 6]
    assert backend.batches == [[1, 2], [3]]


async def test_error_of_a_single_request_goes_to_its_caller_only() -> None:
    backend = Backend(poison=100)
    batcher = await batcher_in_direct_mode(backend)
    first = asyncio.create_task(batcher.run([100]))
    await backend.begun.wait()
    second = batcher.submit([2])
    backend.gate.set()

    assert (await asyncio.gather(first, second, return_exceptions=True)) == [backend.failure, [4]]


async def test_cancelled_single_request_lets_the_next_batch_begin() -> None:
    backend = Backend()
    batcher = await batcher_in_direct_mode(backend)
    first = asyncio.create_task(batcher.run([1]))
    await backend.begun.wait()
    cancelled, second = batcher.submit([2]), batcher.submit([3])
    first.cancel()
    cancelled.cancel()
    await asyncio.wait({first})
    backend.gate.set()

    assert first.cancelled()
    assert await second == [6]
    assert backend.batches == [[1], [3]], "a request that was cancelled before it began does not run"


async def test_close_waits_for_a_single_request_and_those_behind_it() -> None:
    backend = Backend()
    batcher = await batcher_in_direct_mode(backend)
    first = asyncio.create_task(batcher.run([1]))
    await backend.begun.wait()
    second = batcher.submit([2])
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0)
    assert not closing.done()

    backend.gate.set()
    await closing

    assert (await first, second.result()) == ([2], [4])
