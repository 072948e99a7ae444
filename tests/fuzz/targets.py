"""The targets of the fuzzer: functions that get any bytes, and may raise only errors that are documented."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote

from starlette.types import ASGIApp

import brrr_core as brrr
import brrr_cron
from brrr_board import Board
from brrr_board.guard import token_of
from brrr_cli.arguments import read_arguments
from brrr_cli.program import make_app, parse
from brrr_core import wire
from brrr_core.backend import mask_url, parse_url
from brrr_core.backend.steps import split_message
from brrr_core.codec.json import JsonCodec, JsonObjectCodec
from brrr_core.codec.msgpack import MsgpackCodec
from brrr_core.durations import seconds
from brrr_core.errors import ArgumentError, BrrrError, CommandError, DecodeError, MalformedRecordError
from brrr_core.plugins.opening import plan_backend
from brrr_core.wire import FAILURE_PREFIX, Call
from examples.demo.front import make_front
from examples.demo.handlers import HANDLERS

__all__ = ["TARGETS", "Outcome", "Target"]

Outcome = tuple[str, ...]
"""How the parts of a target ended: an empty text for a value, or the place where a documented error was raised."""


class Target(NamedTuple):
    """A target.

    Attributes:
        run: Gets an input. Raises an error that is not documented, or an AssertionError.
        seeds: Inputs to begin with.
        words: Pieces of valid inputs.
    """

    run: Callable[[bytes], Outcome]
    seeds: Sequence[bytes]
    words: Sequence[bytes]


def outcome_of(allowed: type[Exception], part: Callable[[], object]) -> str:
    """Run a part, and say how it ended."""
    try:
        part()
    except allowed as error:
        return _place_of(error)
    return ""


def _place_of(error: Exception) -> str:
    """Return the class of an error, and the lines that raised it: the last one may be a helper that makes errors."""
    lines: list[int] = []
    place = error.__traceback__
    while place is not None:
        lines.append(place.tb_lineno)
        place = place.tb_next
    if not str(error):
        raise AssertionError("the error says nothing") from error
    return f"{type(error).__name__} {lines[-2:]}"


def _same(decode: Callable[[bytes], Any], encode: Callable[[Any], bytes], data: bytes) -> None:
    value = decode(data)
    assert decode(encode(value)) == value


def _message(data: bytes) -> None:
    message = wire.decode_message(data)
    assert split_message(data) in (None, tuple(message))


def fuzz_wire(data: bytes) -> Outcome:
    """Read the input as each kind of record. A record that was read is written and read again."""
    parts: list[Callable[[], object]] = [
        lambda: _message(data),
        lambda: _same(lambda record: wire.decode_call("h", record), wire.encode_call, data),
        lambda: _same(wire.decode_pending, wire.encode_pending, data),
        lambda: _same(wire.decode_state, wire.encode_state, data),
        lambda: _same(wire.decode_buried, wire.encode_buried, data),
        lambda: _same(wire.decode_failure, wire.encode_failure, FAILURE_PREFIX + data),
        lambda: wire.decode_due(data),
        lambda: split_message(data),
    ]
    return tuple(outcome_of(MalformedRecordError, part) for part in parts)


def fuzz_url(data: bytes) -> Outcome:
    """Read the input as the URL of a backend, with the options of its plugin."""
    text = data.decode("utf-8", "surrogateescape")
    parts: list[Callable[[], object]] = [
        lambda: parse_url(text),
        lambda: mask_url(text),
        lambda: plan_backend(text).secrets,
    ]
    return tuple(outcome_of(BrrrError, part) for part in parts)


def fuzz_time(data: bytes) -> Outcome:
    """Read the input as a duration, and as the expression of a recurring schedule with its next tick."""
    text = data.decode("utf-8", "surrogateescape")

    def tick() -> None:
        brrr_cron.every(text, "task").next(datetime(2026, 2, 28, tzinfo=UTC))

    return outcome_of(ArgumentError, lambda: seconds(text)), outcome_of(BrrrError, tick)


@dataclass
class Point:
    """A type of a handler's argument."""

    x: int
    tags: set[str]


async def untyped(*_: Any, **__: Any) -> None:
    """Take anything."""


async def typed(_point: Point, _when: float = 0, *_rest: bytes) -> None:
    """Take arguments that fit the annotations."""


CODECS = (JsonCodec(), JsonObjectCodec(), MsgpackCodec())


def _at_once(coroutine: Any) -> None:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError(coroutine)


def fuzz_codec(data: bytes) -> Outcome:
    """Read the input as arguments and as results, by each codec."""
    call = Call("task", data, "hash")
    parts: list[Callable[[], object]] = []
    for codec in CODECS:
        parts += [lambda codec=codec, task=task: _at_once(codec.invoke_task(call, task)) for task in (untyped, typed)]
        kinds: list[Any] = [Any, int, Point, dict[str, bytes]]
        parts += [lambda codec=codec, kind=kind: codec.decode_return("task", data, returns=kind) for kind in kinds]
    return tuple(outcome_of(DecodeError, part) for part in parts)


class _CommandLine:
    """Reads command lines, without running their commands."""

    def __init__(self) -> None:
        self._app: Any = None

    def __call__(self, data: bytes) -> Outcome:
        """Read the input as the arguments of `brrr`, which end with a zero byte each, and as those of a task."""
        self._app = self._app or make_app()
        tokens = data.decode("utf-8", "surrogateescape").split("\0")
        parsed = outcome_of(CommandError, lambda: parse(self._app, tokens))
        return parsed, outcome_of(CommandError, lambda: read_arguments(tokens))


class _Http:
    """Asks an application, which is replaced regularly.

    Args:
        enter: Makes the application, over a backend in memory, and enters what it needs.
        ending: Finds the code of an error in the body of an answer; an empty text without one.
    """

    LIFE = 1_000
    STATUS = frozenset({200, 202, 303, 307, 400, 403, 404, 405})

    def __init__(self, enter: Callable[[AsyncExitStack], Awaitable[ASGIApp]], ending: Callable[[bytes], str]) -> None:
        self._enter = enter
        self._ending = ending
        self._runner: asyncio.Runner | None = None
        self._stack = AsyncExitStack()
        self._left = 0
        self._app: Any = None

    def __call__(self, data: bytes) -> Outcome:
        """Read the input as lines: the method, the path, the query, the host, the origin, the cookie and the body."""
        self._runner = self._runner or asyncio.Runner()
        return (self._runner.run(self._answer(data)),)

    async def _answer(self, data: bytes) -> str:
        if self._left == 0:
            await self._stack.aclose()
            self._app, self._left = await self._enter(self._stack), self.LIFE
        self._left -= 1
        method, path, query, host, *more = (data.split(b"\n", 6) + [b""] * 7)[:7]
        names = (b"origin", b"cookie")
        headers = [(b"host", host), *((name, value) for name, value in zip(names, more, strict=False) if value)]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method.decode("latin-1"),
            "scheme": "http",
            "path": unquote(path.decode("ascii", "replace")),  # as uvicorn does
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
        }
        sent: list[Mapping[str, Any]] = []

        received: list[Mapping[str, Any]] = [
            {"type": "http.disconnect"},
            {"type": "http.request", "body": more[-1], "more_body": False},
        ]

        async def receive() -> Mapping[str, Any]:
            return received.pop() if len(received) > 1 else received[0]

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        status: int = sent[0]["status"]
        assert status in self.STATUS, status
        return f"{status} {self._ending(b''.join(message.get('body', b'') for message in sent[1:]))}"


async def _enter_front(stack: AsyncExitStack) -> ASGIApp:
    """Make the demo's front."""
    connection = await stack.enter_async_context(brrr.connect("memory:"))
    return make_front(brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection), HANDLERS)


def _front_error(body: bytes) -> str:
    return str(json.loads(body).get("code", "")) if body else ""


async def _enter_board(stack: AsyncExitStack) -> ASGIApp:
    """Make a board that may change things, with two dead letters: one of a call, and one that cannot be read."""
    connection = await stack.enter_async_context(brrr.connect("memory:"))
    client = brrr.AppConsumer(codec="json", connection=connection)
    await client.schedule("fib", topic="t")(5)
    await connection.queue.put("t", [b"\xff"])
    for _ in range(2):
        for delivery in await connection.queue.receive("t", limit=1, wait=0):
            await connection.queue.bury(delivery, "<b>no</b>")
    return await stack.enter_async_context(Board(connection, handlers=HANDLERS, allow_changes=True))


FIB = JsonCodec().encode_call("fib", (5,), {}).call_hash.encode()
"""The call with a dead letter."""


def _board_error(body: bytes) -> str:
    code = re.search(rb"BRRR-\w+-\d+", body)
    return code.group().decode() if code else ""


VISITOR = b"brrr-board=v\ntoken=" + token_of("v").encode()
"""The cookie of a visitor of the board, and the token of that visitor's forms."""


TARGETS: Mapping[str, Target] = {
    "wire": Target(
        fuzz_wire,
        [
            b"li2e4:root4:hashe",
            b"d7:payload4:[11]9:task_name3:fibe",
            b"d7:message2:no9:traceback0:4:type10:ValueErrore",
            b"d7:returnslli1e4:root4:hash5:topicee12:scheduled_ati17ee",
            b"d6:canceli1e12:cancelled_atl4:hashe8:observedd1:h3:nope7:retriesi2ee",
            b"1700000000123",
        ],
        [b"li2e", b"li1e", b"d", b"l", b"e", b"i-1e", b"i0e", b"4:root", b"0:", b"99999999999999999999:", b"5:topic"],
    ),
    "url": Target(
        fuzz_url,
        [
            b"memory:jobs?lease=30s",
            b"sqlite:///brrr.db?synchronous=full",
            b"redis://user:p%40s@h:6379/0?prefix=x&password_env=HOME",
            b"nats://token@[::1]:4222,b",
            b"dynamo://eu-west-1/table?endpoint=http://h",
            b"sqs://eu-west-1?endpoint=http://h",
        ],
        [b"://", b"@", b"?", b"&", b"=", b"%", b"%zz", b"[", b"]", b":65536", b"lease=", b"ttl=", b"1e999", b"_env"],
    ),
    "time": Target(
        fuzz_time,
        [b"10s", b"1.5h", b"0 3 * * *", b"*/5 * * * * *", b"0 0 29 2 *", b"0 0 * * mon-fri", b"@daily"],
        [b"*", b"/", b"-", b",", b" ", b"L", b"#", b"1e9", b"d", b"ms", b"99999999999", b"31 2", b"sun", b"jan"],
    ),
    "codec": Target(
        fuzz_codec,
        [
            b'[{"x":1,"tags":["a"]},2.5]',
            b'{"args":[1],"kwargs":{"x":2}}',
            b'{"x":1}',
            b"\x92\x82\xa1x\x01\xa4tags\x91\xa1a\xcb?\xf0\0\0\0\0\0\0",
            b"null",
        ],
        [
            b"[",
            b"]",
            b"{",
            b"}",
            b"1e999",
            b'"\xff"',
            b'"args":',
            b"\x91",
            b"\xdd\xff\xff\xff\xff",
            b"\xd6\xff\0\0\0\0",
        ],
    ),
    "cli": Target(
        _CommandLine(),
        [
            b"schedule\0fib\0--topic\0jobs\05\0--x=[1]",
            b"result\0fib\0--args\0[5]\0--kwargs\0{}\0--timeout\05s",
            b"worker\0app\0--topic\0jobs\0--concurrency\010",
            b"queue\0stats\0jobs\0--queue\0memory:",
            b"--help",
            b"retry\0fib\0--\0--topic",
        ],
        [
            b"\0",
            b"--",
            b"--topic",
            b"--queue=",
            b"--json",
            b"-h",
            b"[",
            b"{",
            b'"',
            b"1e999",
            b"cancel",
            b"dead",
            b"cron",
        ],
    ),
    "http": Target(
        _Http(_enter_front, _front_error),
        [
            b"GET\n/\n\nlocalhost",
            b"POST\n/fib\nn=5\nlocalhost:8080",
            b"GET\n/hello\ngreetee=%C3%A9\n[::1]:1\nhttp://[::1]:1",
            b"GET\n/calc\nop=fib&n=1000\n127.0.0.1\nhttp://evil",
        ],
        [b"\n", b"POST", b"HEAD", b"%00", b"%ff", b"&", b"n=", b"1e999", b"greetee=", b"localhost", b"[", b"%2f"],
    ),
    "board": Target(
        _Http(_enter_board, _board_error),
        [
            b"GET\n/\nq=t\nlocalhost",
            b"GET\n/topic\nname=t&task=fib&reason=no\n127.0.0.1:1",
            b"GET\n/letter\ntopic=t&id=1\nlocalhost",
            b"GET\n/search\ntask=fib&arguments=5&keywords={}\nlocalhost",
            b"GET\n/call\nhash=" + FIB + b"\nlocalhost",
            b"GET\n/events/topic\nname=t&since=1-1\n[::1]:1\nhttp://[::1]:1",
            b"GET\n/board.css\n\nlocalhost",
            b"POST\n/act\n\nlocalhost\nhttp://localhost\n" + VISITOR + b"&topic=t&complete=1&result=5",
            b"POST\n/act\n\nlocalhost\nhttp://localhost\n" + VISITOR + b"&topic=t&redrive-all=1",
            b"POST\n/act\n\nlocalhost\nhttp://localhost\n" + VISITOR + b"&topic=t&drop=2",
        ],
        [
            b"\n",
            b"&",
            b"=",
            b"%00",
            b"%ff",
            b"%ed%a0%80",
            b"1e999",
            b"[" * 500,
            b"id=2",
            b"name=",
            b"topic=",
            b"arguments=",
            b"keywords={%22self%22:1}",
            b"/call",
            b"/events/call",
            b"/../",
        ],
    ),
}
"""The targets, by name."""
