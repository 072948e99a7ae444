"""Waiting receivers of the memory queue: which events wake them, how many wake, when, and that nothing leaks.

Most tests run in virtual time. A loop that would sleep for hours advances its clock instead, and a loop that nothing
can wake fails at once. So each test checks exact times and never hangs.
"""

import asyncio
import gc
import math
from collections.abc import Callable
from typing import Any

import pytest

from brrr_core.backend import BackendUrl, Delivery, Queue, QueueStats
from brrr_core.backend.memory import MemoryBackend
from brrr_core.backend.memory.waiting import Waiter, WaitQueue
from brrr_core.errors import BackendClosedError

Virtually = Callable[[Callable[[], Any]], None]
Opened = Callable[..., MemoryBackend]


async def settle() -> None:
    """Let all tasks run that can run now."""
    for _ in range(10):
        await asyncio.sleep(0)


def receiver(queue: Queue, *, limit: int = 1, wait: float = math.inf) -> "asyncio.Task[list[Delivery]]":
    return asyncio.create_task(queue.receive("t", limit=limit, wait=wait))


@pytest.fixture
def wakes(monkeypatch: pytest.MonkeyPatch) -> list[Waiter]:
    """Record every wake-up of a waiter."""
    seen: list[Waiter] = []
    wake = Waiter.wake

    def counted(self: Waiter) -> None:
        seen.append(self)
        wake(self)

    monkeypatch.setattr(Waiter, "wake", counted)
    return seen


def test_wait_without_messages_ends_on_time_and_leaves_no_timer(virtually: Virtually, opened: Opened) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with opened() as backend:
            assert await backend.queue.receive("t", limit=1, wait=3600) == []
            assert loop.time() == 3600
            assert loop.timers == 0
            assert backend.queue._space.topics == {}  # type: ignore[attr-defined]

    virtually(main)


def test_put_wakes_receiver_at_once(virtually: Virtually, opened: Opened) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with opened() as backend:
            waiting = receiver(backend.queue, wait=60)
            await settle()
            await backend.queue.put("t", [b"x"])
            [delivery] = await waiting
            assert delivery.body == b"x"
            assert loop.time() == 0
            assert loop.timers == 0

    virtually(main)


@pytest.mark.parametrize("how", ["release", "redrive"])
def test_released_or_redriven_message_wakes_receiver_at_once(virtually: Virtually, opened: Opened, how: str) -> None:
    async def main() -> None:
        async with opened() as backend:
            queue = backend.queue
            await queue.put("t", [b"x"])
            held = await queue.receive("t", limit=1, wait=0)
            waiting = receiver(queue, wait=5)
            await settle()
            if how == "release":
                await queue.release(held)
            else:
                await queue.bury(held[0], "why")
                await queue.redrive("t", limit=1)
            assert len(await waiting) == 1
            assert asyncio.get_running_loop().time() == 0

    virtually(main)


@pytest.mark.parametrize("first", ["wait", "put"])
def test_delayed_message_wakes_receiver_when_it_falls_due(virtually: Virtually, opened: Opened, first: str) -> None:
    async def main() -> None:
        async with opened() as backend:
            waiting = receiver(backend.queue) if first == "wait" else None
            await settle()
            await backend.queue.put("t", [b"late"], delay=50)
            await backend.queue.put("t", [b"soon"], delay=20)  # due before the time of the alarm
            loop: Any = asyncio.get_running_loop()
            assert loop.timers == (1 if waiting else 0)  # one alarm; an infinite wait has no timer
            assert (await (waiting or receiver(backend.queue)))[0].body == b"soon"
            assert asyncio.get_running_loop().time() == 20
            assert (await receiver(backend.queue))[0].body == b"late"
            assert asyncio.get_running_loop().time() == 50

    virtually(main)


def test_expired_lease_wakes_receiver(virtually: Virtually, opened: Opened) -> None:
    async def main() -> None:
        async with opened(lease=30) as backend:
            takes, waits = receiver(backend.queue), receiver(backend.queue)
            await settle()
            await backend.queue.put("t", [b"x"])
            await takes  # its lease begins while the other receiver waits
            [delivery] = await waits
            assert (delivery.attempt, asyncio.get_running_loop().time()) == (2, 30)
            [delivery] = await receiver(backend.queue)  # this receiver begins to wait during the lease
            assert (delivery.attempt, asyncio.get_running_loop().time()) == (3, 60)

    virtually(main)


def test_shortened_lease_wakes_receiver_at_its_new_end(virtually: Virtually, opened: Opened, name: str) -> None:
    async def main() -> None:
        async with opened(name, lease=30) as long, opened(name, lease=5) as short:
            takes, waits = receiver(long.queue), receiver(long.queue)
            await settle()
            await long.queue.put("t", [b"x"])
            await short.queue.extend(await takes)
            await waits
            assert asyncio.get_running_loop().time() == 5

    virtually(main)


def test_extended_lease_wakes_receiver_at_its_new_end(virtually: Virtually, opened: Opened) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with opened(lease=30) as backend:
            await backend.queue.put("t", [b"x"])
            held = await backend.queue.receive("t", limit=1, wait=0)
            waiting = receiver(backend.queue)
            await asyncio.sleep(20)
            await backend.queue.extend(held)
            [delivery] = await waiting
            assert (delivery.attempt, loop.time()) == (2, 50)

    virtually(main)


def test_each_message_wakes_one_receiver(virtually: Virtually, opened: Opened, wakes: list[Waiter]) -> None:
    async def main() -> None:
        async with opened() as backend:
            waiting = [receiver(backend.queue) for _ in range(8)]
            await settle()
            await backend.queue.put("t", [b"1", b"2", b"3"])
            await settle()
            assert [task.done() for task in waiting] == [True] * 3 + [False] * 5  # the receivers that waited longest
            assert len(wakes) == 3
            await backend.queue.put("t", [b"4"])
            await settle()
            assert len(wakes) == 4
            for task in waiting[4:]:
                task.cancel()

    virtually(main)


def test_one_receiver_is_woken_if_it_can_take_all_messages(
    virtually: Virtually, opened: Opened, wakes: list[Waiter]
) -> None:
    async def main() -> None:
        async with opened() as backend:
            many, few = receiver(backend.queue, limit=10), receiver(backend.queue, limit=10)
            await settle()
            await backend.queue.put("t", [b"x"] * 7)
            assert len(await many) == 7
            assert len(wakes) == 1
            few.cancel()

    virtually(main)


def test_each_due_message_wakes_one_receiver(virtually: Virtually, opened: Opened, wakes: list[Waiter]) -> None:
    async def main() -> None:
        async with opened() as backend:
            waiting = [receiver(backend.queue) for _ in range(8)]
            await settle()
            await backend.queue.put("t", [b"1", b"2"], delay=10)
            await backend.queue.put("t", [b"3"], delay=20)
            await asyncio.sleep(15)
            assert sum(task.done() for task in waiting) == len(wakes) == 2
            await asyncio.sleep(10)
            assert sum(task.done() for task in waiting) == len(wakes) == 3
            for task in waiting:
                task.cancel()

    virtually(main)


@pytest.mark.parametrize("look", ["receive", "stats"])
def test_operation_that_finds_due_messages_wakes_other_receivers(clock: Any, until: Any, look: str) -> None:
    async def main() -> None:
        async with MemoryBackend(BackendUrl("memory"), clock=clock) as backend:
            await backend.queue.put("t", [b"1", b"2"], delay=1000)
            waiting = [receiver(backend.queue) for _ in range(2)]
            await settle()
            clock.advance(1000)  # the timers of this loop use another clock
            if look == "receive":
                assert len(await backend.queue.receive("t", limit=1, wait=0)) == 1
                await until(waiting[0].done)
                await backend.queue.put("t", [b"3"])
            else:
                assert await backend.queue.stats("t") == QueueStats(2, 0, 0, 0)
            await until(waiting[1].done)
            await asyncio.gather(*waiting)

    asyncio.run(main())


def test_eight_receivers_take_every_message_once(virtually: Virtually, opened: Opened) -> None:
    async def main() -> None:
        got: list[bytes] = []

        async def consume(queue: Queue, limit: int) -> None:
            while deliveries := await queue.receive("t", limit=limit, wait=100):
                got.extend(delivery.body for delivery in deliveries)
                await asyncio.sleep(limit % 3)
                await queue.ack(deliveries)

        async with opened() as backend, asyncio.TaskGroup() as group:
            for limit in range(1, 9):
                group.create_task(consume(backend.queue, limit))
            for start in range(0, 1000, 20):
                await backend.queue.put("t", [b"%d" % n for n in range(start, start + 20)], delay=start % 7)
                await asyncio.sleep(start % 3)
        assert sorted(got) == sorted(b"%d" % n for n in range(1000))

    virtually(main)


def test_receiver_cancelled_while_waiting_takes_nothing_and_leaves_no_timer(
    virtually: Virtually, opened: Opened
) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with opened() as backend:
            await backend.queue.put("t", [b"x"], delay=50)
            waiting = receiver(backend.queue, wait=100)
            await settle()
            assert loop.timers == 2
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert loop.timers == 0
            await asyncio.sleep(60)
            assert await backend.queue.stats("t") == QueueStats(1, 0, 0, 0)

    virtually(main)


def test_topic_without_messages_is_forgotten_after_the_wait(virtually: Virtually, opened: Opened) -> None:
    async def main() -> None:
        async with opened() as backend:
            waiting = receiver(backend.queue)
            await settle()
            waiting.cancel()
            await settle()
            assert backend.queue._space.topics == {}  # type: ignore[attr-defined]

    virtually(main)


def test_receiver_cancelled_after_its_wake_up_passes_the_message_on(virtually: Virtually, opened: Opened) -> None:
    async def main() -> None:
        async with opened() as backend:
            first, second = receiver(backend.queue), receiver(backend.queue, wait=1000)
            await settle()
            await backend.queue.put("t", [b"x"])  # `first` is woken but has not run yet
            first.cancel()
            [delivery] = await second
            assert delivery.attempt == 1
            assert asyncio.get_running_loop().time() == 0
            assert first.cancelled()

    virtually(main)


def test_message_put_at_the_timeout_of_a_receiver_is_not_lost(virtually: Virtually, opened: Opened) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with opened() as backend:
            waiting = receiver(backend.queue, wait=10)
            await settle()
            putting: list[Any] = []
            loop.call_at(10, lambda: putting.append(asyncio.ensure_future(backend.queue.put("t", [b"x"]))))
            assert len(await waiting) + (await backend.queue.stats("t")).ready == 1
            assert putting

    virtually(main)


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("after", range(4))
def test_receive_cancelled_at_any_turn_loses_no_message(
    virtually: Virtually, opened: Opened, before: int, after: int
) -> None:
    async def main() -> None:
        async with opened() as backend:
            task = receiver(backend.queue)
            for _ in range(before):
                await asyncio.sleep(0)
            await backend.queue.put("t", [b"x"])
            for _ in range(after):
                await asyncio.sleep(0)
            task.cancel()
            [took] = await asyncio.gather(task, return_exceptions=True)
            taken = 0 if isinstance(took, asyncio.CancelledError) else len(took)
            assert await backend.queue.stats("t") == QueueStats(1 - taken, taken, 0, 0)

    virtually(main)


def test_receiver_that_always_finds_messages_lets_other_tasks_run(virtually: Virtually, opened: Opened) -> None:
    async def main() -> None:
        stopped = False

        async def stop() -> None:
            nonlocal stopped
            stopped = True

        async with opened() as backend:
            other = asyncio.create_task(stop())
            for _ in range(10):
                await backend.queue.put("t", [b"x"])
                await backend.queue.ack(await backend.queue.receive("t", limit=1, wait=0))
            assert stopped
            await other

    virtually(main)


def test_close_ends_every_wait_and_leaves_no_timer(virtually: Virtually, opened: Opened) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with opened() as backend:
            await backend.queue.put("t", [b"x"], delay=50)
            waiting = [receiver(backend.queue, wait=100) for _ in range(3)]
            await settle()
        assert loop.timers == 0
        for ended in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(ended, BackendClosedError)

    virtually(main)


def test_close_passes_wake_up_on_to_another_backend(virtually: Virtually, opened: Opened, name: str) -> None:
    async def main() -> None:
        async with opened(name) as stays:
            async with opened(name) as goes:
                first, second = receiver(goes.queue), receiver(stays.queue, wait=1000)
                await settle()
                await stays.queue.put("t", [b"x"])
            with pytest.raises(BackendClosedError):
                await first
            assert len(await second) == 1
            assert asyncio.get_running_loop().time() == 0

    virtually(main)


def test_close_keeps_alarm_for_another_backend_of_the_loop(virtually: Virtually, opened: Opened, name: str) -> None:
    async def main() -> None:
        async with opened(name) as stays:
            async with opened(name) as goes:
                first = receiver(goes.queue)
                await settle()
                second = receiver(stays.queue, wait=1000)
                await settle()
                await stays.queue.put("t", [b"x"], delay=50)
            with pytest.raises(BackendClosedError):
                await first
            assert len(await second) == 1
            assert asyncio.get_running_loop().time() == 50

    virtually(main)


def test_receiver_in_closed_loop_is_skipped(name: str) -> None:
    forgotten = asyncio.new_event_loop()

    async def wait() -> Any:
        backend = MemoryBackend(BackendUrl("memory", path=name))
        await backend.open()
        task = receiver(backend.queue)
        await settle()
        return backend, task

    async def main() -> None:
        async with MemoryBackend(BackendUrl("memory", path=name)) as backend:
            waiting = receiver(backend.queue)
            await settle()
            await backend.queue.put("t", [b"x"])
            assert len(await asyncio.wait_for(waiting, 10)) == 1

    backend, task = forgotten.run_until_complete(wait())
    task._log_destroy_pending = False
    forgotten.close()
    asyncio.run(main())
    del backend, task
    gc.collect()


def test_two_loops_in_two_threads_share_a_space(name: str) -> None:
    """Each loop wakes the other 300 times. A lost wake-up would end in a timeout."""

    async def play(mine: str, theirs: str) -> int:
        async with MemoryBackend(BackendUrl("memory", path=name)) as backend:
            queue = backend.queue
            played = 0
            while played < 300:
                if mine == "a" or played:
                    await queue.put(theirs, [b"ball"], delay=0.0001 if played % 10 == 5 else 0)
                deliveries = await queue.receive(mine, limit=1, wait=20)
                assert deliveries, f"{mine} was not woken after {played}"
                await queue.ack(deliveries)
                played += 1
            if mine == "b":
                await queue.put(theirs, [b"ball"])
            return played

    async def main() -> None:
        ping = asyncio.to_thread(asyncio.run, play("a", "b"))
        pong = asyncio.to_thread(asyncio.run, play("b", "a"))
        assert await asyncio.gather(ping, pong) == [300, 300]

    asyncio.run(main())


def test_receivers_in_several_threads_take_each_message_once(name: str) -> None:
    async def consume() -> list[bytes]:
        got: list[bytes] = []
        async with MemoryBackend(BackendUrl("memory", path=name)) as backend:
            while True:
                deliveries = await backend.queue.receive("t", limit=3, wait=20)
                got += [delivery.body for delivery in deliveries]
                await backend.queue.ack(deliveries)
                if b"end" in got or not deliveries:
                    await backend.queue.put("t", [b"end"])
                    return got

    async def produce() -> None:
        async with MemoryBackend(BackendUrl("memory", path=name)) as backend:
            for n in range(0, 2000, 5):
                await backend.queue.put("t", [b"%d" % i for i in range(n, n + 5)])
                await asyncio.sleep(0)
            await backend.queue.put("t", [b"end"])

    async def main() -> None:
        *got, _ = await asyncio.gather(
            *(asyncio.to_thread(asyncio.run, consume()) for _ in range(3)), asyncio.to_thread(asyncio.run, produce())
        )
        taken = [body for bodies in got for body in bodies or [] if body != b"end"]
        assert sorted(taken) == sorted(b"%d" % n for n in range(2000))

    asyncio.run(main())


def test_wait_queue_wakes_enough_receivers_for_the_messages(virtually: Virtually) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        queue = WaitQueue(loop.time, lambda _: None)
        waiters = [Waiter(loop, limit) for limit in (2, 3, 1)]
        for waiter in waiters:
            queue.join(waiter, math.inf)
        queue.wake(0, loop)
        assert [waiter.woken for waiter in waiters] == [False, False, False]
        queue.wake(3, loop)
        assert [waiter.woken for waiter in waiters] == [True, True, False]
        for waiter in waiters:
            queue.leave(waiter)
        assert not queue

    virtually(main)
