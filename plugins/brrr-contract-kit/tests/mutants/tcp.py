"""A memory backend behind a TCP server of this process: the base of mutants whose server goes away.

Each operation of a client has its own connection. A request is the name of a role and of a method, with its arguments;
an answer is the result or the exception. Deliveries stay on the server, and travel by number.
"""

import asyncio
import io
import pickle
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from brrr_contract_kit.target import Target
from brrr_core.backend import (
    Backend,
    BackendUrl,
    Cache,
    Delivery,
    Duration,
    Notifier,
    Queue,
    Roles,
    Secret,
    Step,
    Steps,
    Store,
    closed_error,
)
from brrr_core.backend.memory import MemoryBackend, MemoryOptions
from brrr_core.errors import BackendUnavailableError
from mutants.kit import GRACE, LEASE, MEMORY
from mutants.liars import MANIFESTS

HEADER = 8
SLICE = 0.2
"""Longest wait of one receive on the server, in seconds."""

PAUSE = 0.02


@dataclass(frozen=True, kw_only=True)
class TcpOptions:
    """The options of the client: the lease that it asks for, the time for an answer, and a secret."""

    lease: Duration = Duration(30)
    timeout: Duration = Duration(5)
    retry_for: Duration = Duration(0)
    token: Secret | None = None


class Server(threading.Thread):
    """Serves the roles of memory backends, one for each lease, in its own event loop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.held: dict[int, Delivery] = {}
        self.port = 0
        self._ready = threading.Event()

    def run(self) -> None:
        asyncio.run(self._main())

    def started(self) -> "Server":
        self.start()
        self._ready.wait(10)
        return self

    async def _main(self) -> None:
        self.backends: dict[float, MemoryBackend] = {}
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 28)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        async with server:
            await server.serve_forever()

    async def _roles(self, lease: float) -> Roles:
        if lease not in self.backends:
            url = BackendUrl("memory", path="behind-tcp")
            self.backends[lease] = MemoryBackend(url, MemoryOptions(Duration(lease)))
            await self.backends[lease].open()
        return self.backends[lease].roles

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                lease, role, method, args, kwargs = loads(await framed(reader), self.held)
                target = getattr(await self._roles(lease), role)
                if method == "watch":
                    await self._watch(target.notifier, args[0], reader, writer)
                    return
                writer.write(frame(dumps(await answer(target, method, args, kwargs), self.held)))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _watch(
        self, notifier: Notifier, call_hash: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        def wake() -> None:
            writer.write(b"!")

        await notifier.watch(call_hash, wake)
        wake()
        await reader.read()  # until the client closes the connection
        notifier.unwatch(call_hash, wake)


async def answer(target: Any, method: str, args: Any, kwargs: Any) -> tuple[bool, object]:
    """Run an operation. Return whether it succeeded, with its result or its exception."""
    try:
        if method != "pop":
            return True, await getattr(target, method)(*args, **kwargs)
        found = await target.receive(*args, **kwargs)
        await target.ack(found)
    except Exception as error:  # noqa: BLE001 - the client raises it
        return False, error
    return True, found


def dumps(value: object, held: dict[int, Delivery] | None) -> bytes:
    """Pickle a value. The server keeps each delivery; the receipts of the client are the numbers."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> Any:
            if not isinstance(obj, Delivery):
                return None
            number = obj.receipt
            if held is not None:
                number = id(obj)
                held[number] = obj
            return number, obj.topic, obj.body, obj.attempt

    out = io.BytesIO()
    Pickler(out).dump(value)
    return out.getvalue()


def loads(data: bytes, held: dict[int, Delivery] | None) -> Any:
    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid: Any) -> Delivery:
            number, topic, body, attempt = pid
            return held[number] if held is not None else Delivery(topic, body, number, attempt)

    return Unpickler(io.BytesIO(data)).load()


def frame(data: bytes) -> bytes:
    return len(data).to_bytes(HEADER, "big") + data


async def framed(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(HEADER), "big"))


SERVER = Server().started()


class TcpBackend(Backend):
    """A sound client. A lost answer raises, as the operation may have taken effect."""

    queue_kind: ClassVar[Any]
    notifier_kind: ClassVar[Any]

    def __init__(self, url: BackendUrl, options: TcpOptions) -> None:
        self.url, self.options = url, options
        self.retry_for = options.retry_for
        self.asking: set[asyncio.Task[Any]] = set()
        self.closed = True

    async def start(self) -> Roles:
        self.closed = False
        await self.ask("cache", "increment", {})
        store = TcpStore(self)
        self.notifier = store.notifier = self.notifier_kind(self)
        return Roles(self.queue_kind(self), store, TcpCache(self), TcpSteps(self))

    async def stop(self) -> None:
        self.closed = True
        for task in self.asking:
            task.cancel()
        if self.asking:
            await asyncio.wait(self.asking)
        if hasattr(self, "notifier"):
            await self.notifier.close()

    async def ask(self, role: str, method: str, *args: object, wait: float | None = None, **kwargs: object) -> Any:
        """Send one request; cancelled and failed if the backend is closed."""
        if self.closed:
            raise closed_error()
        if wait is not None:
            kwargs["wait"] = wait
        task = asyncio.ensure_future(self.exchange(dumps((self.options.lease, role, method, args, kwargs), None)))
        self.asking.add(task)
        task.add_done_callback(self.asking.discard)
        try:
            async with asyncio.timeout(self.options.timeout + (wait or 0)):
                done, result = loads(await task, None)
        except asyncio.CancelledError:
            if self.closed:
                raise closed_error() from None
            if task.cancelled() and not asyncio.current_task().cancelling():
                raise self.unavailable("its connection was cancelled") from None
            raise
        except (OSError, asyncio.IncompleteReadError) as error:
            raise self.unavailable("did not answer") from error
        if not done:
            raise result
        return result

    def unavailable(self, what: str) -> BackendUnavailableError:
        return BackendUnavailableError(f"{self.url} {what}", remedy="Start the server.")

    async def exchange(self, request: bytes) -> bytes:
        ((host, port),) = self.url.hosts
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 28)
        try:
            writer.write(frame(request))
            return await framed(reader)
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)


class TcpQueue(Queue):
    def __init__(self, backend: TcpBackend) -> None:
        self.backend = backend
        self.lease = backend.options.lease

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        await self.backend.ask("queue", "put", topic, bodies, delay=delay)

    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        return await waited(wait, lambda left: self.backend.ask("queue", "receive", topic, limit=limit, wait=left))

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self.backend.ask("queue", "ack", deliveries)

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        await self.backend.ask("queue", "release", deliveries, delay=delay)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        await self.backend.ask("queue", "extend", deliveries)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        await self.backend.ask("queue", "bury", delivery, reason)

    async def stats(self, topic: str) -> Any:
        return await self.backend.ask("queue", "stats", topic)

    async def dead(self, topic: str, *, limit: int) -> Any:
        return await self.backend.ask("queue", "dead", topic, limit=limit)

    async def redrive(self, topic: str, *, limit: int) -> Any:
        return await self.backend.ask("queue", "redrive", topic, limit=limit)

    async def drop(self, topic: str, *, limit: int) -> Any:
        return await self.backend.ask("queue", "drop", topic, limit=limit)


async def waited(wait: float, receive: Any) -> Any:
    """Receive in slices until something comes or the wait is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait if wait == wait and wait > 0 else 0
    while True:
        left = wait if wait != wait or wait <= 0 else max(0, deadline - loop.time())
        found = await receive(min(left, SLICE))
        if found or left <= SLICE:
            return found


class TcpStore(Store):
    def __init__(self, backend: TcpBackend) -> None:
        self.backend = backend

    async def read(self, keys: Sequence[Any]) -> Any:
        return await self.backend.ask("store", "read", keys)

    async def write(self, items: Sequence[Any]) -> None:
        await self.backend.ask("store", "write", items)

    async def swap(self, swaps: Sequence[Any]) -> Any:
        return await self.backend.ask("store", "swap", swaps)


class TcpCache(Cache):
    def __init__(self, backend: TcpBackend) -> None:
        self.backend = backend

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        found: dict[str, int] = await self.backend.ask("cache", "increment", dict(amounts))
        return found


class TcpSteps(Steps):
    def __init__(self, backend: TcpBackend) -> None:
        self.backend = backend

    async def receive(self, topic: str, *, limit: int, wait: float, readings: Sequence[Any]) -> Any:
        def receive(left: float) -> Any:
            return self.backend.ask("steps", "receive", topic, limit=limit, wait=left, readings=readings)

        return await waited(wait, receive)

    async def commit(self, steps: Sequence[Step], *, readings: Sequence[Any] = ()) -> Any:
        return await self.backend.ask("steps", "commit", steps, readings=readings)


class TcpNotifier(Notifier):
    """One connection for each watch, which is opened again when it is lost."""

    connects_again = True

    def __init__(self, backend: TcpBackend) -> None:
        self.backend = backend
        self.watches: dict[tuple[str, Any], asyncio.Task[None]] = {}

    async def watch(self, call_hash: str, wake: Any) -> bool:
        if self.backend.closed:
            raise closed_error()
        in_force = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(self.listen(call_hash, wake, in_force))
        self.watches[call_hash, wake] = task
        done, _ = await asyncio.wait({in_force}, timeout=self.backend.options.timeout)
        return bool(done) and in_force.result()

    async def listen(self, call_hash: str, wake: Any, in_force: asyncio.Future[bool]) -> None:
        request = frame(dumps((self.backend.options.lease, "store", "watch", (call_hash,), {}), None))
        ((host, port),) = self.backend.url.hosts
        while True:
            writer = None
            try:
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(request)
                while await reader.read(1):
                    if in_force.done():
                        wake()
                    else:
                        in_force.set_result(True)
            except OSError:
                pass
            finally:
                if writer is not None:
                    writer.transport.abort()
            if not in_force.done():
                in_force.set_result(False)
            if not self.connects_again:
                return
            await asyncio.sleep(PAUSE)

    def unwatch(self, call_hash: str, wake: Any) -> None:
        task = self.watches.pop((call_hash, wake), None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        watches, self.watches = self.watches, {}
        for task in watches.values():
            task.cancel()
        if watches:
            await asyncio.wait(watches.values())
        for _, wake in watches:
            wake()
        await asyncio.sleep(0)


TcpBackend.queue_kind, TcpBackend.notifier_kind = TcpQueue, TcpNotifier


def sound() -> Target:
    """Return the unbroken backend over TCP."""
    return Target.at(f"soundtcp://127.0.0.1:{SERVER.port}", lease=LEASE, grace=GRACE)


MANIFESTS.append(
    replace(
        MEMORY, schemes=("soundtcp",), example="soundtcp://h:1", backend=f"{__name__}:TcpBackend", options=TcpOptions
    )
)
