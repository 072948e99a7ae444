"""`Gate` refuses operations when a backend closes, and ends those that run."""

import asyncio
import os
from multiprocessing import get_context

import pytest

from brrr_core.backend import Gate
from brrr_core.errors import BackendClosedError, ForkedError
from brrr_testkit.waiting import until


async def wait_inside(gate: Gate) -> None:
    async with gate.enter():
        await asyncio.Event().wait()


async def begun(gate: Gate, number: int = 1) -> list[asyncio.Task[None]]:
    """Return operations that wait inside the gate."""
    tasks = [asyncio.create_task(wait_inside(gate)) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


async def test_closing_ends_operations_and_refuses_others() -> None:
    gate = Gate()
    waiting = await begun(gate, 3)
    gate.check()

    await gate.close()

    for task in waiting:
        with pytest.raises(BackendClosedError, match="was closed"):
            await task
    for refused in (gate.check, lambda: gate.start(asyncio.sleep(0))):
        with pytest.raises(BackendClosedError):
            refused()
    with pytest.raises(BackendClosedError):
        await wait_inside(gate)


async def test_close_waits_for_operations_and_tasks() -> None:
    gate, proceed, ended = Gate(), asyncio.Event(), list[str]()

    async def operate() -> None:
        async with gate.enter():
            await proceed.wait()
            ended.append("operation")

    async def finish() -> None:
        ended.append("task")

    operating = asyncio.create_task(operate())
    gate.start(proceed.wait()).add_done_callback(lambda _: gate.start(finish()))
    await asyncio.sleep(0)
    closing = asyncio.create_task(gate.close(600))
    await asyncio.sleep(0)
    with pytest.raises(BackendClosedError):
        gate.check()
    assert not closing.done()
    proceed.set()

    async with asyncio.timeout(30):
        await closing
    await operating
    assert sorted(ended) == ["operation", "task"]


async def test_close_returns_when_the_last_operation_has_ended() -> None:
    gate = Gate()
    (waiting,) = await begun(gate)
    closing = asyncio.create_task(gate.close(600))
    await asyncio.sleep(0)
    waiting.cancel()

    async with asyncio.timeout(30):
        await closing


async def test_close_ends_what_still_runs_after_its_time() -> None:
    gate = Gate()
    (waiting,) = await begun(gate)
    task = gate.start(asyncio.Event().wait())

    await gate.close(0.01)

    assert task.cancelled()
    with pytest.raises(BackendClosedError):
        await gate.result(task)
    with pytest.raises(BackendClosedError):
        await waiting


async def test_cancelled_close_ends_what_still_runs() -> None:
    gate = Gate()
    (waiting,) = await begun(gate)
    task = gate.start(asyncio.Event().wait())
    closing = asyncio.create_task(gate.close(600))
    await asyncio.sleep(0)

    closing.cancel()

    await asyncio.wait({waiting, task})
    assert closing.cancelled()
    assert task.cancelled()


async def test_refusing_lets_operations_continue_and_ends_pauses() -> None:
    gate = Gate()
    (waiting,) = await begun(gate)
    pausing = asyncio.create_task(gate.pause(600, longest=600))
    await asyncio.sleep(0)

    gate.refuse()

    with pytest.raises(BackendClosedError):
        await pausing
    with pytest.raises(BackendClosedError):
        gate.check()
    assert not waiting.done()
    await gate.close()
    await asyncio.wait({waiting})


@pytest.mark.parametrize("closes", [False, True])
async def test_cancellation_passes_through_a_gate(closes: bool) -> None:
    gate = Gate()
    (waiting,) = await begun(gate)
    waiting.cancel()
    if closes:
        await gate.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_operation_ends_if_others_cancel_every_task_of_its_client() -> None:
    gate = Gate()
    (waiting,) = await begun(gate)
    for task in asyncio.all_tasks() - {asyncio.current_task(), waiting}:
        task.cancel()
    later = asyncio.create_task(wait_inside(gate))

    with pytest.raises(BackendClosedError, match="cancelled from outside"):
        await waiting
    for _ in range(5):
        await asyncio.sleep(0)
    assert not later.done()
    await gate.close()
    with pytest.raises(BackendClosedError, match="was closed"):
        await later


async def test_cancellation_that_a_client_library_passes_on_is_not_the_callers() -> None:
    with pytest.raises(BackendClosedError, match="cancelled from outside"):
        async with Gate().enter():
            raise asyncio.CancelledError


async def test_timeout_of_other_code_passes_through_a_gate() -> None:
    with pytest.raises(TimeoutError, match="theirs"):
        async with Gate().enter():
            raise TimeoutError("theirs")


async def test_task_continues_when_its_caller_is_cancelled() -> None:
    gate, proceed = Gate(), asyncio.Event()
    task = gate.start(proceed.wait())
    calling = asyncio.create_task(gate.result(task))
    await asyncio.sleep(0)
    calling.cancel()
    await asyncio.wait({calling})

    assert not task.done()
    proceed.set()
    assert await gate.result(task) is True


async def test_callers_of_a_key_share_one_task_until_it_ends() -> None:
    gate, proceed, runs = Gate(), asyncio.Event(), list[int]()

    async def work() -> int:
        await proceed.wait()
        runs.append(len(runs))
        if len(runs) == 2:
            raise LookupError("the second")
        return len(runs)

    callers = [asyncio.create_task(gate.shared("key", work)) for _ in range(3)]
    await asyncio.sleep(0)
    callers[0].cancel()
    proceed.set()

    assert await asyncio.gather(*callers[1:]) == [1, 1]
    with pytest.raises(LookupError, match="the second"):
        await gate.shared("key", work)
    assert await gate.shared("key", work) == 3


async def test_task_cancelled_by_other_code_fails_its_callers() -> None:
    gate = Gate()
    task = gate.start(asyncio.Event().wait())
    task.cancel()

    with pytest.raises(BackendClosedError, match="cancelled from outside"):
        await gate.result(task)


async def test_error_of_a_task_without_a_caller_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise LookupError("unread")

    gate = Gate()
    task = gate.start(fail())
    await until(task.done)
    await asyncio.sleep(0)
    del task

    assert not caplog.records


async def test_gate_of_another_process_refuses_operations() -> None:
    gate = Gate()
    context = get_context("fork")
    reading, writing = context.Pipe(duplex=False)

    def use() -> None:
        try:
            gate.check()
        except ForkedError as error:
            writing.send(str(error))

    child = context.Process(target=use)
    child.start()
    try:
        assert f"opened in process {os.getpid()}" in reading.recv()
    finally:
        child.join()
