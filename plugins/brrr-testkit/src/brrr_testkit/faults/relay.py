"""TCP proxies in front of a server. They record commands, and break connections as the relay of the kit does."""

import re
from collections.abc import Callable
from typing import Final

from brrr_contract_kit.testbed.relay import Bytes, Relay, relayed
from brrr_testkit.processes import MissingExtraError

__all__ = ["Bytes", "NatsProxy", "RedisProxy", "Relay", "relayed"]

PUBLISHED: Final = re.compile(rb"(H?PUB) (\S+) (?:\S+ )?(?:\d+ )?(\d+)\r\n")
"""The first line of a message that a NATS client publishes: operation, subject, size."""


class RedisProxy(Relay[list[bytes]]):
    """A relay in front of Redis, which records commands.

    Attributes:
        commands: The commands since the last `clear`, without handshakes.
        trips: The number of TCP chunks with commands. Pipelined commands usually arrive in one chunk.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target, scheme="redis")
        self.commands: list[list[bytes]] = []
        self.trips = 0

    @property
    def url(self) -> str:
        """URL for a backend, with the number of its database."""
        return f"{super().url}/0"

    def clear(self) -> None:
        """Reset the commands and the trips."""
        self.commands.clear()
        self.trips = 0

    def reader(self) -> Callable[[bytes], list[list[bytes]]]:
        """Return a function that parses and records the commands of one connection."""
        try:
            import hiredis
        except ImportError as error:
            raise MissingExtraError("hiredis", extra="redis") from error
        parser = hiredis.Reader()

        def read(data: bytes) -> list[list[bytes]]:
            parser.feed(data)
            fresh: list[list[bytes]] = []
            while (command := parser.gets()) is not False:
                if command[0] not in (b"CLIENT", b"AUTH", b"SELECT", b"HELLO"):
                    fresh.append(command)
            self.commands += fresh
            self.trips += bool(fresh)
            return fresh

        return read


class NatsProxy(Relay[bytes]):
    """A relay in front of NATS, which records messages.

    Attributes:
        subjects: The subjects to which clients published.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target, scheme="nats")
        self.subjects: list[str] = []

    def reader(self) -> Callable[[bytes], list[bytes]]:
        """Return a function that parses and records the subjects of one connection."""
        buffer = bytearray()

        def read(data: bytes) -> list[bytes]:
            buffer.extend(data)
            fresh: list[bytes] = []
            while (end := buffer.find(b"\r\n")) >= 0:
                found = PUBLISHED.match(buffer)
                length = end + 2
                if found:
                    length = found.end() + int(found[3]) + 2
                    if len(buffer) < length:
                        break
                    fresh.append(bytes(found[2]))
                del buffer[:length]
            self.subjects += [each.decode() for each in fresh]
            return fresh

        return read
