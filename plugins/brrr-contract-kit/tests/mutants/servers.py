"""Backends over TCP that break when their server goes away, falls silent, or when its answer is lost."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from brrr_core.backend import Duration, Message, closed_error
from brrr_core.errors import BackendError, BackendRefusedError, BackendUnavailableError
from mutants.liars import by_url
from mutants.tcp import SERVER, TcpBackend, TcpNotifier, TcpOptions, TcpQueue, frame, framed

URL = f"{{scheme}}://127.0.0.1:{SERVER.port}"


def over_tcp(*rules: str, options: type = TcpOptions) -> Callable[[type], type]:
    """Register a backend class as a mutant behind the server."""
    return by_url(*rules, url=URL, options=options)


@over_tcp("BACKEND-SERVER-01", "BACKEND-SERVER-02")
class PassesConnectionErrorsOn(TcpBackend):
    """If the connection is lost, an operation raises the client library's own error."""

    async def ask(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().ask(*args, **kwargs)
        except BackendUnavailableError as error:
            raise error.__cause__ or error from None


@over_tcp("BACKEND-SERVER-01")
class ReceivesWithoutAnEnd(TcpBackend):
    """A receive that waits hides every lost connection, and connects again without an end."""

    class queue_kind(TcpQueue):  # noqa: N801 - replaces an attribute of that name
        async def receive(self, topic, *, limit, wait):
            while True:
                try:
                    return await super().receive(topic, limit=limit, wait=wait)
                except BackendUnavailableError:
                    if wait < 1:
                        raise
                    await asyncio.sleep(0.1)


@over_tcp("BACKEND-SERVER-02")
class IsBrokenForGood(TcpBackend):
    """After a lost connection, every later operation fails too."""

    broken = False

    async def ask(self, *args: Any, **kwargs: Any) -> Any:
        if self.broken:
            raise self.unavailable("was lost")
        try:
            return await super().ask(*args, **kwargs)
        except BackendUnavailableError:
            self.broken = True
            raise


@over_tcp("BACKEND-SERVER-02")
class SleepsThroughARestart(TcpBackend):
    """A receive whose connection is lost for a moment waits on, and no put wakes it."""

    class queue_kind(TcpQueue):  # noqa: N801 - replaces an attribute of that name
        async def receive(self, topic, *, limit, wait):
            try:
                return await super().receive(topic, limit=limit, wait=wait)
            except BackendUnavailableError:
                with suppress(BackendError):
                    await self.backend.ask("cache", "increment", {})
                    await asyncio.sleep(min(wait, 30))
                raise


@over_tcp("BACKEND-SERVER-03")
class WaitsForAnAnswer(TcpBackend):
    """An operation waits for its answer without a time limit."""

    async def ask(self, *args: Any, wait: float | None = None, **kwargs: Any) -> Any:
        return await super().ask(*args, wait=wait, **kwargs) if wait else await self.patient(*args, wait=wait, **kwargs)

    async def patient(self, *args: Any, **kwargs: Any) -> Any:
        timeout, self.options = self.options.timeout, TcpOptions(lease=self.options.lease, timeout=Duration(600))
        try:
            return await super().ask(*args, **kwargs)
        finally:
            self.options = TcpOptions(lease=self.options.lease, timeout=timeout)


@dataclass(frozen=True, kw_only=True)
class _Endless:
    lease: Duration = Duration(30)
    token: str | None = None


@over_tcp("BACKEND-SERVER-03", options=_Endless)
class HasNoTimeout(TcpBackend):
    """A backend with a server has no option `timeout`."""

    def __init__(self, url: Any, options: Any) -> None:
        super().__init__(url, TcpOptions(lease=options.lease))


@over_tcp("BACKEND-SERVER-03")
class TakesLateAnswers(TcpBackend):
    """One connection carries all operations, and an answer that comes late is mistaken for that of the next one."""

    stream: Any = None

    async def start(self):
        self.lock = asyncio.Lock()
        return await super().start()

    async def exchange(self, request: bytes) -> bytes:
        async with self.lock:
            if self.stream is None:
                ((host, port),) = self.url.hosts
                self.stream = await asyncio.open_connection(host, port, limit=1 << 28)
            reader, writer = self.stream
            writer.write(frame(request))
            return await framed(reader)

    async def stop(self):
        await super().stop()
        if self.stream is not None:
            self.stream[1].transport.abort()
            self.stream = None
            await asyncio.sleep(0)


@over_tcp("BACKEND-SERVER-04")
class SaysGoodbye(TcpBackend):
    """Closing sends a last request, and waits for its answer."""

    async def stop(self):
        with suppress(OSError, asyncio.IncompleteReadError):
            await self.exchange(b"a request that the server cannot read")
        await super().stop()


@over_tcp("CACHE-ANSWER-01", "STORE-ANSWER-01", "STEPS-ANSWER-01")
class RepeatsEverything(TcpBackend):
    """An operation whose answer is lost is repeated."""

    async def ask(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().ask(*args, **kwargs)
        except BackendUnavailableError:
            return await super().ask(*args, **kwargs)


@over_tcp("CACHE-ANSWER-01", "STORE-ANSWER-01")
class RepeatsAfterATimeout(TcpBackend):
    """An operation is repeated if its answer does not come in time; if the connection is lost, it raises."""

    async def ask(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().ask(*args, **kwargs)
        except BackendUnavailableError as error:
            if not isinstance(error.__cause__, TimeoutError):
                raise
            return await super().ask(*args, **kwargs)


@over_tcp("STORE-ANSWER-01")
class TrustsItsEyes(TcpBackend):
    """If the answer to a swap is lost, the swap counts as won if the record is the new one."""

    async def ask(self, role: str, method: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().ask(role, method, *args, **kwargs)
        except BackendUnavailableError:
            if method != "swap":
                raise
            seen = await super().ask("store", "read", [swap.key for swap in args[0]])
            return [new == swap.new for new, swap in zip(seen, args[0], strict=True)]


@over_tcp("QUEUE-ANSWER-01")
class PutsAPart(TcpBackend):
    """A batch is put message by message, and ends in silence if an answer is lost."""

    class queue_kind(TcpQueue):  # noqa: N801 - replaces an attribute of that name
        async def put(self, topic, bodies, *, delay=0):
            with suppress(BackendUnavailableError):
                for body in bodies:
                    await super().put(topic, [body], delay=delay)


@over_tcp("QUEUE-ANSWER-02")
class PopsMessages(TcpBackend):
    """The server removes a message when it sends it."""

    async def ask(self, role: str, method: str, *args: Any, **kwargs: Any) -> Any:
        return await super().ask(role, "pop" if (role, method) == ("queue", "receive") else method, *args, **kwargs)


@over_tcp("QUEUE-ANSWER-03")
class BuriesInPieces(TcpBackend):
    """A bury removes the message first. If that answer is lost, a repeated bury does nothing."""

    class queue_kind(TcpQueue):  # noqa: N801 - replaces an attribute of that name
        async def bury(self, delivery, reason):
            done = self.__dict__.setdefault("done", set())
            if delivery.receipt in done:
                return
            done.add(delivery.receipt)
            await self.ack([delivery])
            await self.put(delivery.topic, [delivery.body])
            for each in await self.receive(delivery.topic, limit=1, wait=0):
                await super().bury(each, reason)


@over_tcp("QUEUE-ANSWER-03")
class RefusesASecondAck(TcpBackend):
    """A repeated ack raises an error, because the message is gone."""

    class queue_kind(TcpQueue):  # noqa: N801 - replaces an attribute of that name
        async def ack(self, deliveries):
            done = self.__dict__.setdefault("done", set())
            for each in deliveries:
                if each.receipt in done:
                    raise BackendError("the message is gone", remedy="Acknowledge it once.")
                done.add(each.receipt)
            await super().ack(deliveries)


@over_tcp("STEPS-ANSWER-01")
class CommitsInPieces(TcpBackend):
    """A commit puts its messages in a request of their own."""

    async def ask(self, role: str, method: str, *args: Any, **kwargs: Any) -> Any:
        if method == "commit":
            for step in args[0]:
                await self._put([each for each in step.messages if not each.leased])
            rest = [step._replace(messages=[each for each in step.messages if each.leased]) for step in args[0]]
            return await super().ask(role, method, rest, **kwargs)
        return await super().ask(role, method, *args, **kwargs)

    async def _put(self, messages: list[Message]) -> None:
        for each in messages:
            await super().ask("queue", "put", each.topic, [each.body], delay=each.delay)


@over_tcp("STORE-WATCH-07")
class WatchesUntilACut(TcpBackend):
    """A watch ends with its connection."""

    class notifier_kind(TcpNotifier):  # noqa: N801 - replaces an attribute of that name
        connects_again = False


@over_tcp("STORE-WATCH-07")
class ClaimsToWatch(TcpBackend):
    """A watch claims to be in force, even without a server."""

    class notifier_kind(TcpNotifier):  # noqa: N801 - replaces an attribute of that name
        async def watch(self, call_hash, wake):
            await super().watch(call_hash, wake)
            return True


@over_tcp("STORE-WATCH-07")
class WatchesForever(TcpBackend):
    """A new watch waits for a server that is gone."""

    class notifier_kind(TcpNotifier):  # noqa: N801 - replaces an attribute of that name
        async def watch(self, call_hash, wake):
            while not await super().watch(call_hash, wake):
                await asyncio.sleep(0.1)
                self.unwatch(call_hash, wake)
                if self.backend.closed:
                    raise closed_error()
            return True


_log = logging.getLogger("client")


@over_tcp("BACKEND-SECRET-02")
class LogsItsLogin(TcpBackend):
    """The log of a connection to a live server contains the password, at level DEBUG."""

    async def start(self):
        roles = await super().start()
        _log.debug("AUTH %s", self.url.password and self.url.password.reveal())
        return roles


@over_tcp("BACKEND-SECRET-02")
class QuotesTheRefusal(TcpBackend):
    """The server quotes the refused password, and the error quotes the server."""

    async def start(self):
        roles = await super().start()
        if self.url.password:
            raise BackendRefusedError(f"wrong password {self.url.password.reveal()}", remedy="Correct it.")
        return roles


@dataclass
class _Settings:
    token: str


@over_tcp("BACKEND-SECRET-02")
class KeepsPlainSettings(TcpBackend):
    """The `repr` of a part of an open backend shows a secret option."""

    class queue_kind(TcpQueue):  # noqa: N801 - replaces an attribute of that name
        def __init__(self, backend):
            super().__init__(backend)
            self.settings = _Settings(backend.options.token.reveal() if backend.options.token else "")
