"""The network between a backend and its servers: relays that a rule cuts, silences and restores."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final, Self
from urllib.parse import quote, urlsplit

from brrr_contract_kit.target import Target, option_types
from brrr_contract_kit.testbed.checks import NotApplicableError, described
from brrr_contract_kit.testbed.relay import Bytes
from brrr_contract_kit.testbed.servers import at_address
from brrr_core import open_backend
from brrr_core.backend import Backend, Duration, parse_url
from brrr_core.errors import BrrrError, ContractError

__all__ = ["SHORT_TIMEOUT", "TIMEOUTS", "Network"]

TIMEOUTS: Final = ("connect_timeout", "timeout", "retry_for")
"""The options that bound how long an operation waits for its server."""

SHORT_TIMEOUT: Final = 1.0
"""Seconds to which the kit sets these options if a rule waits for a timeout."""

MAX_LOST_ANSWERS: Final = 6
"""The most answers of one operation that are lost. It bounds the attempts if a connection is never quiet."""


class Network:
    """One relay on this machine for each server of a target. They forward everything until a rule says otherwise.

    Raises:
        NotApplicableError: The backend has no server.
        ContractError: The URL does not show the port of its server.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._relays = [Bytes(port, scheme="", host=host) for host, port in _servers(target)]
        self._stack = AsyncExitStack()
        self._lose_at = 0
        for relay in self._relays:
            relay.loses_answer = self._loses

    async def __aenter__(self) -> Self:
        for relay in self._relays:
            await self._stack.enter_async_context(relay)
        if (readdress := self._target.readdress) is not None:
            places = {f"{relay.host}:{relay.target}": relay.place for relay in self._relays}
            for relay in self._relays:
                relay.rewrite = lambda answer: readdress(answer, places)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def listen(self) -> None:
        """Accept connections from now on. Before that, the ports are closed."""
        for relay in self._relays:
            await relay.listen()

    def backend(self, *, short_timeouts: bool = False, short_lease: bool = False) -> Backend:
        """Return a new, closed backend behind the relays.

        Args:
            short_timeouts: Set its timeouts to `SHORT_TIMEOUT` seconds, if it has these options.
            short_lease: Set its lease, as `Target.backend` does.
        """
        url = self.url
        names = self.settable if short_timeouts else ()
        options: dict[str, object] = dict.fromkeys(names, Duration(SHORT_TIMEOUT))
        if short_lease and self._target.takes_lease:
            options["lease"] = Duration(self._target.lease)
        return open_backend(url, **options)

    async def opened(self, *, short_timeouts: bool = False, short_lease: bool = False) -> Backend:
        """Return an open backend behind the relays, which is closed when the rule ends.

        Raises:
            ContractError: It cannot be opened, although the target can.
        """
        backend = self.backend(short_timeouts=short_timeouts, short_lease=short_lease)
        try:
            return await self._stack.enter_async_context(backend)
        except BrrrError as error:
            raise ContractError(
                f"the backend cannot be opened through a relay at {self.addresses}: {described(error)}",
                remedy="Give the kit a fixture `relayed`, which returns the URL for a server behind that address.",
            ) from error

    @property
    def addresses(self) -> str:
        """Host and port of each relay, separated by commas."""
        return ",".join(relay.place for relay in self._relays)

    @property
    def url(self) -> str:
        """The URL of the target, with the relays instead of its servers."""
        return relayed_url(self._target, self.addresses)

    @property
    def settable(self) -> list[str]:
        """The timeouts that the kit can set: options of the backend which its URL does not give."""
        given = {name.replace("-", "_") for name, _ in parse_url(self._target.address()).query}
        types = option_types(self._target.manifest)
        return [name for name in TIMEOUTS if types.get(name) is Duration and name not in given]

    def cut(self) -> None:
        """Cut all connections, and refuse new ones until `restore`."""
        for relay in self._relays:
            relay.refusing = True
            relay.cut()

    def silence(self) -> None:
        """Forward nothing until `restore`, and keep the connections open."""
        for relay in self._relays:
            relay.silence()

    def restore(self) -> None:
        """Forward again: bytes that arrived meanwhile, and new connections."""
        for relay in self._relays:
            relay.restore()

    async def lose_each_answer(self, attempt: Callable[[], Awaitable[None]], *, silently: bool = False) -> None:
        """Make attempts that lose their first, second … answer, until an attempt has no more answers.

        An attempt before these loses the first answer after the backend was opened, which is often one of preparation.

        Args:
            attempt: An attempt.
            silently: Whether to make one more attempt, in which the connection falls silent at its first answer.
        """
        self.lose_answer(1)
        await attempt()
        for number in range(1, MAX_LOST_ANSWERS + 1):
            self.lose_answer(number)
            await attempt()
            if self._lose_at:
                break
        if silently:
            for relay in self._relays:
                relay.loses_silently = True
            self.lose_answer(1)
            await attempt()
        self.lose_answer(0)

    def lose_answer(self, number: int) -> None:
        """Lose the answer with this number, counted from now: cut the connection instead of forwarding it; 0: none."""
        self._lose_at = number

    def pause(self) -> int:
        """Lose no answer until `lose_answer` is called with the number that this returns."""
        number, self._lose_at = self._lose_at, 0
        return number

    def _loses(self, _: bytes) -> bool:
        if not self._lose_at:
            return False
        self._lose_at -= 1
        return self._lose_at == 0


def _servers(target: Target) -> list[tuple[str, int]]:
    """Return host and port of each server: those that the author names, or those in the URL."""
    if target.url is None:
        raise NotApplicableError("a function makes the backend, so it has no URL")
    if target.server is not None:
        found = parse_url(f"tcp://{target.server}").url.hosts
    else:
        parsed = parse_url(target.url)
        endpoint = dict(parsed.query).get("endpoint")
        found = (_place(endpoint.reveal()),) if endpoint is not None else parsed.url.hosts
    servers = [(host, port) for host, port in found if port is not None]
    if found and len(servers) == len(found):
        return servers
    if not found or not _names_a_server(target.url):
        raise NotApplicableError("the URL names no server")
    raise ContractError(
        f"the URL {target.name} does not show the port of its server",
        remedy="Write the port in the URL, or set `server` to HOST:PORT: the kit puts a relay in front of the server.",
    )


def _place(endpoint: str) -> tuple[str, int | None]:
    parts = urlsplit(endpoint)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _names_a_server(url: str) -> bool:
    """Whether the host of a URL is a server, and not the name of something else."""
    try:
        open_backend(at_address(url, "127.0.0.1:1"))
    except BrrrError:
        return False
    return True


def relayed_url(target: Target, addresses: str) -> str:
    """Return the URL of a target with other addresses of its servers, separated by commas."""
    url = target.address()
    if target.relayed is not None:
        return target.relayed(url, addresses)
    parsed = parse_url(url)
    endpoint = dict(parsed.query).get("endpoint")
    texts = [target.server] if target.server is not None else []
    texts += [urlsplit(endpoint.reveal()).netloc] if endpoint is not None else []
    for text in (form for each in texts for form in (each, quote(each, safe=""))):
        if text in url:
            return url.replace(text, addresses)
    return at_address(url, addresses)
