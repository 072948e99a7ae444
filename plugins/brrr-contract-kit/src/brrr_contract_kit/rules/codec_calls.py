"""Rules CODEC-HASH, CODEC-ROUND and CODEC-ERROR: stable hashes, lossless values and clear errors."""

import json
import os
import subprocess
import sys
from asyncio import CancelledError, gather, sleep, to_thread
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import broken, check, equal, refused, shown
from brrr_contract_kit.testbed.codecs import CodecContext
from brrr_contract_kit.testbed.context import NotApplicableError, error_of, raised
from brrr_core.codec import FAILURE_PREFIX, Call
from brrr_core.errors import BrrrError, DecodeError, EncodeError

NAMES: Final = ["task", "Task", "task ", "a.b:c", "", "snow ☃", "🦆", 'quo"ted', "line\nbreak", "[1]"]

VALUES: Final[list[Any]] = [
    None,
    True,
    False,
    0,
    -1,
    2**53 - 1,
    1.5,
    -0.25,
    "",
    "text",
    "snow ☃, emoji 🦆, 日本, e\u0301, \u2028",
    '\0\x01\x7f"\\/\b\f\n\r\t',
    [],
    [1, [2, [3, []]]],
    {},
    {"b": 1, "a": {"z": None, "y": [1, {"x": True}]}, "": 0, "é": "ü"},
]
"""Values that every codec can encode: JSON, with numbers that every language has."""


class Opaque:
    """A class that no codec can encode."""

    __slots__ = ("hidden",)


@dataclass
class Reading:
    """A dataclass as the argument of a task."""

    count: int


def _reversed(value: Any) -> Any:
    """Return an equal value whose dicts have the reverse order."""
    match value:
        case dict():
            members = cast("dict[str, Any]", value)
            return {key: _reversed(members[key]) for key in reversed(members)}
        case list():
            return [_reversed(each) for each in value]  # pyright: ignore[reportUnknownVariableType] - any value
        case _:
            return value


@rule("CODEC-HASH-01")
async def order_free(ctx: CodecContext) -> None:
    """The hash and payload of a call do not depend on the attempt, or on the order of dict keys, sets or keywords.

    Why: A re-run must find its earlier calls. Another hash is another call, and the workflow would never end.

    Test: Calls are encoded twice: the second time all dicts and keyword arguments have the reverse order, and sets are
    built differently.
    """
    codec = ctx.codec
    for value in VALUES:
        equal(ctx.call("task", _reversed(value)), ctx.call("task", value), f"the reordered call of {shown(value)}")
    keywords = {"one": 1, "two": {"b": 1, "a": 2}, "three": None}
    one, other = (codec.encode_call("task", (), each) for each in (keywords, _reversed(keywords)))
    equal(other, one, "a call with reordered keyword arguments")
    grown: set[str] = {f"extra {number}" for number in range(100)}
    wanted = {f"{number}" for number in range(20)}
    grown |= wanted
    grown -= {each for each in grown if each.startswith("extra")}
    try:
        one, other = ctx.call("task", wanted), ctx.call("task", grown)
    except EncodeError:
        return  # a codec may refuse sets
    equal(other, one, "a call with a set that was built in another order")


PROBE: Final = """
import json, sys
from importlib import import_module
from brrr_core import load_codec
module, _, kind = sys.argv[1].partition(":")
codec = getattr(import_module(module), kind)() if kind else load_codec(module)
values = json.loads(sys.argv[2])
named = codec.keyword_only
calls = [codec.encode_call("task", () if named else (v,), {"a": v} if named else {}) for v in values]
names = {f"n{number}" for number in range(20)}
calls.append(codec.encode_call("task", (), {name: {each: 1 for each in names} for name in names}))
print(json.dumps([[call.call_hash, call.payload.hex()] for call in calls]))
"""


@rule("CODEC-HASH-02")
async def same_everywhere(ctx: CodecContext) -> None:
    """A call has the same hash and payload in every process, for every seed of Python's own hashes.

    Why: One worker schedules a call, and another looks for its value.

    Test: Three processes with different `PYTHONHASHSEED` encode the same calls, with dicts that are made of sets. If
    the codec is an object, they make one by calling its class.
    """
    if ctx.target.location is None:
        raise NotApplicableError("other processes cannot import the class of the codec")
    command = [sys.executable, "-c", PROBE, ctx.target.location, json.dumps(VALUES)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    ran = await gather(
        *(
            to_thread(
                subprocess.run,
                command,
                env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=False,
            )
            for seed in ("0", "1", "4242")
        )
    )
    for each in ran:
        if each.returncode != 0:
            broken(f"a new process cannot encode calls: {each.stderr[-1000:]}")
    equal(len({each.stdout for each in ran}), 1, "the number of different encodings in three processes")
    own = [[call.call_hash, call.payload.hex()] for call in (ctx.call("task", value) for value in VALUES)]
    equal(json.loads(ran[0].stdout)[: len(own)], own, "the encodings of another process")


@rule("CODEC-HASH-03")
async def printable(ctx: CodecContext) -> None:
    """The hash of a call is printable US-ASCII and not empty, for all task names and arguments.

    Why: It is part of store keys and of every message (docs/reference/protocol.md).

    Test: Hostile task names and arguments are encoded.
    """
    for call in [*(ctx.call(name, 1) for name in NAMES), *(ctx.call("task", value) for value in VALUES)]:
        made: object = call.call_hash
        plain = isinstance(made, str) and made.isascii() and made.isprintable()  # pyright: ignore[reportUnnecessaryIsInstance]
        check(plain and bool(made), f"a call hash is {made!r}")
        equal(type(call.payload), bytes, "the type of a payload")


@rule("CODEC-HASH-04")
async def distinct(ctx: CodecContext) -> None:
    """Different calls have different hashes: other tasks, other arguments, other positions and other types.

    Why: The hash is the identity of a call. Two calls with one hash would share one value.

    Test: A hundred different calls are encoded, among them `f(1)` and `f("1")`, `f([1])` and `f(1)`, `f(1, 2)` and
    `f([1, 2])`, and tasks whose names and arguments look alike when joined.
    """
    calls = {f"{name!r} of 0.5": ctx.call(name, 0.5) for name in NAMES}
    calls |= {f"task of {value!r}": ctx.call("task", value) for value in VALUES}
    more: list[tuple[object, ...]] = [
        (),
        (None, None),
        (1, 2),
        ([1, 2],),
        (2, 1),
        ("1",),
        (1,),
        ("None",),
        ("1", "2"),
        ("12",),
    ]
    more += [("a", "b,c"), ("a,b", "c"), ('a","b',), ({"a": 1},), ({"a": "1"},), ([["a", 1]],), ("true",), ("[]",)]
    calls |= {f"task of {values!r}": ctx.call("task", *values) for values in more}
    calls |= {"tas of k1": ctx.call("tas", "k1"), "taskk of 1": ctx.call("taskk", 1)}
    calls |= {f"task of number {number}": ctx.call("task", number + 100) for number in range(50)}
    seen: dict[str, str] = {}
    for name, call in calls.items():
        if call.call_hash in seen:
            broken(f"two calls have one hash: {seen[call.call_hash]} and {name}")
        seen[call.call_hash] = name


@rule("CODEC-HASH-05")
async def named_call(ctx: CodecContext) -> None:
    """An encoded call keeps the name of its task, and all encodings of a call are equal.

    Why: The call record names the handler.

    Test: Calls with hostile names are encoded twice.
    """
    for name in NAMES:
        equal(ctx.call(name, 1).task_name, name, "the task name of a call")
        equal(ctx.call(name, 1), ctx.call(name, 1), "a call that is encoded a second time")


@rule("CODEC-ROUND-01")
async def arguments_return(ctx: CodecContext) -> None:
    """A task is called with the encoded arguments.

    Why: A call consists of its task and its arguments.

    Test: Values of all plain types are encoded as one argument of a task without annotations, and then several
    together.
    """
    for value in VALUES:
        args, kwargs = await ctx.arguments(ctx.call("task", value))
        equal([*args, *kwargs.values()], [value], "the arguments of a task")
    args, kwargs = await ctx.arguments(ctx.call("task", *VALUES[8:16]))
    equal([*args, *kwargs.values()], VALUES[8:16], "several arguments of a task, in order")


@rule("CODEC-ROUND-02")
async def results_return(ctx: CodecContext) -> None:
    """An encoded result is decoded to the same value, by any codec object, any number of times.

    Why: All parents of a child read its value.

    Test: A task returns values of all plain types. Each is decoded twice, untyped.
    """
    for value in VALUES:
        payload = await ctx.result(value)
        equal(type(payload), bytes, "the type of an encoded result")
        for _ in range(2):
            equal(ctx.codec.decode_return("task", payload), value, "a result that was decoded")
        equal(await ctx.result(_reversed(value)), payload, "the bytes of a result with reordered dicts")


@rule("CODEC-ROUND-03")
async def keywords_return(ctx: CodecContext) -> None:
    """Keyword arguments are passed under their names.

    Why: Users write calls with keyword arguments.

    Test: A call with three keyword arguments is encoded. The task has two of them as parameters, both annotated.
    """
    call = ctx.codec.encode_call("task", (), {"count": 3, "name": "x", "rest": [1]})
    seen: list[object] = []

    async def task(name: str, count: int, **others: object) -> str:
        seen.extend([name, count, others])
        return name

    payload = await ctx.codec.invoke_task(call, task)
    equal(seen, ["x", 3, {"rest": [1]}], "the keyword arguments of a task")
    equal(ctx.codec.decode_return("task", payload, returns=str), "x", "a result that was decoded as `str`")


@rule("CODEC-ROUND-04")
async def shared_object(ctx: CodecContext) -> None:
    """One codec object serves many concurrent calls.

    Why: A worker has one codec and may run a hundred calls at the same time.

    Test: Fifty calls with different values are invoked concurrently, each suspended in its task.
    """

    async def one(number: int) -> None:
        async def task(a: list[int]) -> list[int]:
            await sleep(0)
            return [*a, number]

        payload = await ctx.codec.invoke_task(ctx.call(f"task {number}", [number]), task)
        equal(ctx.codec.decode_return("task", payload), [number, number], "the result of one of fifty concurrent calls")

    await gather(*(one(number) for number in range(50)))


@rule("CODEC-ROUND-05")
async def results_are_no_failures(ctx: CodecContext) -> None:
    """No encoded result begins with `FAILURE_PREFIX`.

    Why: These bytes mark the failure of a call, so a parent would take such a result for a failure.

    Test: A task returns values of all plain types, and the text and the list of the bytes of the prefix.
    """
    for value in (*VALUES, FAILURE_PREFIX.decode("latin-1"), list(FAILURE_PREFIX)):
        payload = await ctx.result(value)
        check(not payload.startswith(FAILURE_PREFIX), f"the encoded result of {shown(value)} begins with the prefix")


@rule("CODEC-ERROR-01")
async def refuses_arguments(ctx: CodecContext) -> None:
    """An argument that cannot be encoded raises an `EncodeError` that names the task and the type of the argument.

    Why: The user must find it in a workflow of a thousand calls. The engine dead-letters such a call immediately.

    Test: An object of a class that no codec knows, a function, and a dict that contains itself are passed, directly and
    nested.
    """
    endless: dict[str, object] = {}
    endless["self"] = endless
    for value in (Opaque(), [1, {"deep": Opaque()}], refuses_arguments, endless):
        error = error_of(partial(ctx.call, "a-task", value))
        refused(error, EncodeError, f"a call of {shown(type(value))}")
        check("a-task" in str(error), f"the error does not name the task 'a-task': {error}")
    error = error_of(partial(ctx.call, "a-task", [Opaque()]))
    check("Opaque" in str(error), "the error does not name the type that cannot be encoded")


@rule("CODEC-ERROR-02")
async def refuses_results(ctx: CodecContext) -> None:
    """A result that cannot be encoded raises an `EncodeError` that names the task.

    Why: Otherwise the call fails on every attempt, and the user does not know which call it is.

    Test: A task returns an object of a class that no codec knows.
    """
    call = ctx.codec.encode_call("a-task", (), {})

    async def task() -> object:
        return {"deep": [Opaque()]}

    error = await raised(ctx.codec.invoke_task(call, task))
    refused(error, EncodeError, "a result that cannot be encoded")
    check("a-task" in str(error), f"the error does not name the task 'a-task': {error}")


@rule("CODEC-ERROR-03")
async def refuses_garbage(ctx: CodecContext) -> None:
    """Bytes that are not a valid payload or result raise a `DecodeError`, and the task is not called.

    Why: Another codec, or another version of it, wrote them. An error is better than a task that runs with invalid
    arguments.

    Test: Empty, cut and random bytes are decoded, as a payload and as a result. An empty result may be decoded to None,
    because a TypeScript function without a result writes it.
    """
    good = ctx.call("task", ["long enough to be cut"])
    result = await ctx.result(["long enough to be cut"])
    called: list[object] = []

    async def task(*args: object, **kwargs: object) -> None:
        called.append((args, kwargs))

    for garbage in (b"", good.payload[:-1], b"\xff\xfe\xc1 rubbish"):
        call = Call("task", garbage, good.call_hash)
        refused(await raised(ctx.codec.invoke_task(call, task)), DecodeError, f"the payload {garbage!r}")
    equal(called, [], "the calls of a task whose payload cannot be decoded")
    for garbage in (b"", result[:-1], b"\xff\xfe\xc1 rubbish"):
        error = None
        try:
            if ctx.codec.decode_return("task", garbage) is None and not garbage:
                continue
        except Exception as caught:  # noqa: BLE001 - the rule checks its type
            error = caught
        refused(error, DecodeError, f"the result {garbage!r}")


@rule("CODEC-ERROR-04")
async def refuses_misfits(ctx: CodecContext) -> None:
    """Arguments that do not fit the parameters of the task raise a `DecodeError`, and the task is not called.

    Why: A handler may change while its calls are queued. Running it with the wrong arguments is worse than not running
    it.

    Test: A task gets too many arguments, too few, and one of the wrong type for its annotation. If the codec decodes
    dataclasses, it also gets a field that its dataclass does not have.
    """
    called: list[object] = []

    async def task(a: int) -> None:
        called.append(a)

    async def reader(a: Reading) -> None:
        if isinstance(a, Reading):  # pyright: ignore[reportUnnecessaryIsInstance] - a codec may not support dataclasses
            called.append(a)

    await ctx.codec.invoke_task(ctx.call("task", {"count": 1}), reader)
    if called.pop() if called else None:
        error = await raised(ctx.codec.invoke_task(ctx.call("task", {"count": 1, "unit": "K"}), reader))
        refused(error, DecodeError, "a call with a field that the task's dataclass does not have")

    for values in ((), (1, 2), ("no number",)):
        error = await raised(ctx.codec.invoke_task(ctx.call("task", *values), task))
        refused(error, DecodeError, f"a call with the arguments {values!r} of a task of one number")
    equal(called, [], "the calls of a task whose arguments do not fit")


@rule("CODEC-ERROR-05")
async def passes_errors(ctx: CodecContext) -> None:
    """Exceptions of a task pass unchanged, errors and cancellations alike.

    Why: Signals of the engine pass through the codec as exceptions. A wrapped signal would count as a failure.

    Test: A task raises an error, a `BrrrError`, a `CancelledError` and its own `BaseException`.
    """

    class Signal(BaseException):
        pass

    call = ctx.codec.encode_call("task", (), {})
    for leaving in (ValueError("ours"), BrrrError("ours"), CancelledError("ours"), Signal("ours")):
        try:
            await ctx.codec.invoke_task(call, _raising(leaving))
        except BaseException as error:  # noqa: BLE001 - the rule compares it
            if error is not leaving:
                broken(f"a task raised {leaving!r}, but the codec raised {error!r}", cause=error)
        else:
            broken(f"a task raised {leaving!r}, but the codec raised no exception")


def _raising(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def task() -> None:
        raise error

    return task
