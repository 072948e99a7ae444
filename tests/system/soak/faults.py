"""The faults of the soak. Each begins, lasts, and is over when it returns."""

import asyncio
import os
import random
import resource
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

from tests.system.soak.places import Place
from tests.system.soak.workers import Worker, Workers

__all__ = ["Fault", "faults_of"]

Fault: TypeAlias = Callable[[], Awaitable[None]]

MEMORY_ROOM: Final = 2 << 20
"""Bytes that a process may still allocate when its memory is limited."""


def faults_of(place: Place, workers: Workers, dice: random.Random) -> Mapping[str, Fault]:
    """Return the faults that a backend can have, by name. `dice` chooses victims and times."""
    faults = Faults(place, workers, dice)
    found: dict[str, Fault] = {
        "worker killed": faults.kill_worker,
        "worker frozen beyond its lease": faults.freeze_worker,
        "worker without memory": faults.limit_memory,
    }
    if workers.clocks:
        found["clock of a worker set"] = faults.set_clock
    if place.relays:
        found |= {
            "network slow": faults.delay,
            "connections cut": faults.cut,
            "answer lost": faults.lose_answer,
            "answer lost, half-open": faults.half_open,
            "network silent": faults.silence,
            "connections refused": faults.refuse,
        }
    if place.servers:
        found |= {
            "server killed": faults.kill_server,
            "server frozen": faults.freeze_server,
            "server with a full disk": faults.fill_disk_of_server,
        }
    else:
        found["full disk"] = faults.fill_disk_of_worker
    return found


class Faults:
    """The faults, on one place and its workers."""

    def __init__(self, place: Place, workers: Workers, dice: random.Random) -> None:
        self._place = place
        self._workers = workers
        self._dice = dice

    async def kill_worker(self) -> None:
        """SIGKILL. `Workers` starts another."""
        self._worker().process.kill()

    async def freeze_worker(self) -> None:
        """SIGSTOP until others have received its messages; then it writes on."""
        await self._freeze(self._worker().process.pid, self._place.lease * self._dice.uniform(1.2, 2.5))

    async def limit_memory(self) -> None:
        """Let a worker allocate little more than it has."""
        worker = self._worker()
        with suppress(ProcessLookupError, FileNotFoundError):
            most = _memory_of(worker.process.pid) + MEMORY_ROOM
            await self._limit(worker.process.pid, resource.RLIMIT_AS, most)

    async def set_clock(self) -> None:
        """Set the clock of a worker, and later back."""
        worker = self._worker()
        worker.set_clock(self._dice.choice(self._place.clock_steps))
        await self._while()
        worker.set_clock(0)

    async def delay(self) -> None:
        """Forward everything later."""
        relay = self._dice.choice(self._place.relays)
        relay.delay = self._dice.uniform(0.01, 0.2)
        await self._while()
        relay.delay = 0.0

    async def cut(self) -> None:
        """Cut all connections, wherever their bytes are."""
        self._dice.choice(self._place.relays).cut()

    async def lose_answer(self, *, silently: bool = False) -> None:
        """Discard an answer of the server, and cut its connection or let it fall silent."""
        relay, left = self._dice.choice(self._place.relays), [self._dice.randint(1, 20)]

        def now(_: bytes) -> bool:
            left[0] -= 1
            return left[0] == 0

        relay.loses_silently, relay.loses_answer = silently, now
        await self._while()
        relay.loses_silently, relay.loses_answer = False, None

    async def half_open(self) -> None:
        """Discard an answer, and everything after it, on a connection that stays open."""
        await self.lose_answer(silently=True)

    async def silence(self) -> None:
        """Forward nothing for a time, and then what came meanwhile, or nothing of it."""
        relay = self._dice.choice(self._place.relays)
        relay.silence()
        await self._while()
        if self._dice.random() < 0.5:
            relay.cut()
        relay.restore()

    async def refuse(self) -> None:
        """Cut all connections, and refuse others for a time."""
        relay = self._dice.choice(self._place.relays)
        relay.refusing = True
        relay.cut()
        await self._while()
        relay.restore()

    async def kill_server(self) -> None:
        """SIGKILL; the server starts again with the data on its disk."""
        server, restart = self._dice.choice(self._place.servers)
        server.kill()
        await self._while(0.5)
        await asyncio.to_thread(restart)

    async def freeze_server(self) -> None:
        """SIGSTOP for a time."""
        server, _ = self._dice.choice(self._place.servers)
        assert server.process is not None
        await self._freeze(server.process.pid, self._dice.uniform(0.5, 3.0))

    async def fill_disk_of_server(self) -> None:
        """Let the files of a server not grow for a time. Then kill it: after such an error it may refuse to write."""
        server, restart = self._dice.choice(self._place.servers)
        assert server.process is not None
        await self._limit(server.process.pid, resource.RLIMIT_FSIZE, 1)
        server.kill()
        await asyncio.to_thread(restart)

    async def fill_disk_of_worker(self) -> None:
        """Let the files that a worker writes not grow for a time."""
        await self._limit(self._worker().process.pid, resource.RLIMIT_FSIZE, self._dice.choice([1, 1 << 16]))

    def _worker(self) -> Worker:
        return self._dice.choice(self._workers.running)

    async def _while(self, share: float = 1.0) -> None:
        await asyncio.sleep(self._dice.uniform(0.2, 3.0) * share)  # how long the fault lasts

    async def _freeze(self, pid: int, seconds: float) -> None:
        _signal(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        _signal(pid, signal.SIGCONT)

    async def _limit(self, pid: int, kind: int, most: int) -> None:
        """Set a limit of a process for a time."""
        with suppress(ProcessLookupError):
            before = resource.prlimit(pid, kind)
            resource.prlimit(pid, kind, (most, before[1]))
            await self._while(0.5)
            resource.prlimit(pid, kind, before)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _memory_of(pid: int) -> int:
    """Return the size of the address space of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
