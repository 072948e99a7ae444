"""Mutants that open or close wrongly, or leave resources behind."""

import asyncio
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

from mutants.kit import MEMORY, CacheOver, QueueOver, Sound, StoreOver, breaks


@breaks("BACKEND-OPEN-01", raises=RuntimeError)
class OpensOnce(Sound):
    """A closed backend cannot be opened again."""

    started = False

    async def start(self):
        if self.started:
            raise RuntimeError("threads can only be started once")
        self.started = True
        return await super().start()


@breaks("BACKEND-OPEN-02", raises=AttributeError)
class ClosesOnce(Sound):
    """Closing a second time raises an error."""

    async def close(self):
        roles: Any = self._roles
        _ = roles.queue.lease
        await super().close()


@breaks("BACKEND-OPEN-03")
class OpensTwice(Sound):
    """Opening an open backend connects again and forgets the first connection."""

    async def open(self):
        self._roles = None
        await super().open()


@breaks("BACKEND-OPEN-04")
class OffersLess(Sound):
    """A role that the manifest declares is missing."""

    async def start(self):
        return replace(await super().start(), cache=None)


@breaks("BACKEND-OPEN-04", manifest=replace(MEMORY, cache=None))
class OffersMore(Sound):
    """The backend offers a role that the manifest does not declare."""


@breaks("BACKEND-OPEN-05")
class WorksOnClosed(Sound):
    """The store still answers after the backend is closed."""

    async def start(self):
        roles = await super().start()
        inner = roles.store.inner
        inner._session = type("Open", (), {"check": lambda self: None})()
        return roles


@breaks("BACKEND-OPEN-06")
class WaitsOnClosed(Sound):
    """A receive still waits after its backend is closed."""

    class queue_kind(QueueOver):  # noqa: N801 - replaces an attribute of that name
        async def receive(self, topic, *, limit, wait):
            found = await self.inner.receive(topic, limit=limit, wait=0)
            if not found and wait:
                await asyncio.sleep(min(wait, 30))
            return found


@breaks("BACKEND-OPEN-07", raises=RuntimeError)
class KeepsItsLoop(Sound):
    """A lock belongs to the event loop of the first opening."""

    loop = None

    async def start(self):
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError("got Future attached to a different loop")
        return await super().start()


@breaks("BACKEND-OPEN-08", raises=FileExistsError)
class SetsUpOnce(Sound):
    """A second setup fails."""

    done = False

    async def setup(self):
        if type(self).done:
            type(self).done = False
            raise FileExistsError("the table exists")
        type(self).done = True
        return ["made the table"]


@breaks("BACKEND-OPEN-09")
class ForgetsACancelledOpening(Sound):
    """A connection that was made before the opening was cancelled is never closed."""

    async def start(self):
        self.reader = asyncio.create_task(asyncio.sleep(600))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.whole = True
        return await super().start()

    whole = False

    async def stop(self):
        if self.whole:
            self.reader.cancel()
        await super().stop()


@breaks("BACKEND-CLEAN-01", "BACKEND-CLEAN-04")
class LeaksATask(Sound):
    """Closing leaves a task behind."""

    async def start(self):
        self.task = asyncio.create_task(asyncio.sleep(600))
        return await super().start()


@breaks("BACKEND-CLEAN-01")
class LeaksAThread(Sound):
    """Closing leaves a thread behind."""

    async def start(self):
        threading.Thread(target=threading.Event().wait, args=(4,), daemon=True).start()
        return await super().start()


@breaks("BACKEND-CLEAN-01")
class CallsFromAThread(Sound):
    """A thread calls the loop without `call_soon_threadsafe`, and suppresses the error."""

    async def start(self):
        loop = asyncio.get_running_loop()

        def work():
            with suppress(RuntimeError):
                loop.call_soon(print)

        await asyncio.to_thread(work)
        return await super().start()


LEAKED = []


@breaks("BACKEND-CLEAN-01")
class LeaksASocket(Sound):
    """Closing leaves a socket open."""

    async def start(self):
        LEAKED.append(socket.socket())
        return await super().start()


@breaks("BACKEND-CLEAN-04")
class LeavesItToTheCollector(Sound):
    """A socket is left to the garbage collector, which issues a ResourceWarning."""

    async def start(self):
        self.socket = socket.socket()
        return await super().start()

    async def stop(self):
        await super().stop()
        self.socket = None


@breaks("BACKEND-CLEAN-04")
class ForgetsAnError(Sound):
    """A task fails, and its exception is never retrieved."""

    async def start(self):
        async def fail():
            raise LookupError("this exception is never retrieved")

        asyncio.create_task(fail())  # noqa: RUF006 - this is the defect
        return await super().start()


@breaks("BACKEND-CLEAN-02")
class HangsUnderUse(Sound):
    """An operation that is running when its backend is closed never ends."""

    class queue_kind(QueueOver):  # noqa: N801 - replaces an attribute of that name
        async def receive(self, topic, *, limit, wait):
            try:
                return await self.inner.receive(topic, limit=limit, wait=wait)
            except Exception:  # closing may raise any
                await asyncio.sleep(30)
                raise


@breaks("BACKEND-CLEAN-03")
class SwallowsErrors(Sound):
    """An error that leaves the block is suppressed."""

    async def __aexit__(self, *error: object) -> Any:
        await self.close()
        return True


@breaks("BACKEND-CLEAN-05")
class LosesItsPump(Sound):
    """The operations of a store wait for a task, and still wait after other code cancelled it."""

    class store_kind(StoreOver):  # noqa: N801 - replaces an attribute of that name
        asked: "asyncio.Queue[asyncio.Future[None]]"

        async def pump(self):
            while True:
                (await self.asked.get()).set_result(None)

        async def read(self, keys):
            asking = asyncio.get_running_loop().create_future()
            self.asked.put_nowait(asking)
            await asking
            return await self.inner.read(keys)

    async def start(self):
        roles = await super().start()
        roles.store.asked = asyncio.Queue()
        self.pumping = asyncio.create_task(roles.store.pump())
        return roles

    async def stop(self):
        self.pumping.cancel()
        await super().stop()


@breaks("BACKEND-CLEAN-05")
class PassesCancellationsOn(Sound):
    """If other code cancels an internal task of an operation, the caller gets a `CancelledError`."""

    class cache_kind(CacheOver):  # noqa: N801 - replaces an attribute of that name
        async def increment(self, amounts):
            return await asyncio.create_task(self.inner.increment(amounts))


@breaks("BACKEND-CLEAN-05")
class ClosesByItsTask(Sound):
    """Closing waits for a signal from a task that other code cancelled."""

    async def start(self):
        self.asked, self.done = asyncio.Event(), asyncio.Event()
        self.closing = asyncio.create_task(self.answer())
        return await super().start()

    async def answer(self):
        await self.asked.wait()
        self.done.set()

    async def stop(self):
        self.asked.set()
        try:
            async with asyncio.timeout(5):
                await self.done.wait()
        except TimeoutError:
            pass
        await super().stop()


@breaks("BACKEND-PROC-01")
class Pickles(Sound):
    """A backend can be pickled."""

    def __reduce__(self) -> Any:
        return (dict, ())


@breaks("BACKEND-PROC-02")
class Forks(Sound):
    """A backend works in a forked process, on the connection of its parent."""

    @property
    def roles(self):
        if self._roles is None:
            return super().roles
        return self._roles


@breaks("BACKEND-MANIFEST-01", manifest=replace(MEMORY, example="redis://localhost"))
class OtherExample(Sound):
    """The example in the manifest has another scheme."""
