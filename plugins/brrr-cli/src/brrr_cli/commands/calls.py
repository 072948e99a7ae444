"""`brrr schedule`, `brrr result` and `brrr complete`: schedule a call, print or await its result, settle it by hand."""

import json
import time
from functools import cache, partial
from typing import Annotated

from cyclopts import Parameter

from brrr_cli.arguments import NO_OPTIONS, ArgumentTokens, CallOptions, NamedCall, named_call
from brrr_cli.options import (
    NO_URLS,
    AsJson,
    CodecName,
    Count,
    DurationOption,
    Quiet,
    Timeout,
    Topic,
    Urls,
    Verbose,
)
from brrr_cli.output import note, progress_of, write_json, write_line
from brrr_core import CallStatus, Connection, Scheduled, connect, load_codec
from brrr_core.backend import Duration
from brrr_core.codec import Codec
from brrr_core.engine.calls import EVENT
from brrr_core.engine.failures import failure_by_hand
from brrr_core.engine.status import read_status
from brrr_core.engine.waiting import DeadLetters, DeadLetterScope, wait_for_value
from brrr_core.errors import CommandError, NotFoundError
from brrr_core.wire import Call, encode_failure

__all__ = ["complete", "result", "schedule", "show", "status"]


async def schedule(
    task: Annotated[str, Parameter(help="The name of the task.")],
    /,
    *arguments: ArgumentTokens,
    topic: Topic,
    options: CallOptions = NO_OPTIONS,
    wait: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Wait for the result, and print it as JSON.")
    ] = False,
    timeout: Timeout = None,
    delay: Annotated[DurationOption, Parameter(help="The delay before the call runs.")] = Duration(0),
    redrive: Annotated[
        bool,
        Parameter(
            negative=(),
            show_default=False,
            help="Put the call and every missing child once more: the queue lost messages, or a topic was wrong.",
        ),
    ] = False,
    spawn_limit: Annotated[
        Count | None,
        Parameter(show_default=False, help="The most messages that this schedule may cause; 1,000,000 by default."),
    ] = None,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Schedule a call for the workers of a topic.

    You may schedule a call twice: if it has a result, or was scheduled within the last hour, the command says so and
    puts nothing. brrr cannot know the parameters of a task from its name, so `11` and `--n 11` are two calls, unless
    --handlers names the function.

    --wait prints the result as JSON. The exit code is then 4 if the call has no result in time, 5 if the call, or one
    that it waits for on the same topic, is dead-lettered, and 6 if the call failed for good.
    """
    del verbose  # `report` reads it from the command line
    named = named_call(task, arguments, options)
    async with connect(urls.queue, urls.store, urls.cache) as connection:
        done = await connection.schedule(named.call, topic, delay=delay, redrive=redrive, spawn_limit=spawn_limit)
        if not wait and timeout is None:
            _tell(task, done, as_json=as_json)
            return
        silent = quiet or as_json
        if not silent:
            note(_said(task, done))
        scope = DeadLetterScope(DeadLetters(connection.queue, topic), done.root_id)
        value = await _value(connection, named, timeout, scope, silent=silent)
    named.write_value(value)


async def result(
    task: Annotated[str, Parameter(help="The name of the task.")],
    /,
    *arguments: ArgumentTokens,
    options: CallOptions = NO_OPTIONS,
    wait: Annotated[bool, Parameter(negative=(), show_default=False, help="Wait for the result.")] = False,
    timeout: Timeout = None,
    topic: Annotated[
        str | None,
        Parameter(show_default=False, help="The call's topic; the wait then also ends when the call is dead-lettered."),
    ] = None,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Print the result of a call as JSON.

    Pass the arguments with which the call was scheduled: they identify it. The exit code is 3 if the call has no result
    yet, and 6 if the call failed for good. With --wait it is 4 if the call has no result in time, and 5 if the call, or
    one that it waits for, is dead-lettered.
    """
    del verbose  # `report` reads it from the command line
    named = named_call(task, arguments, options)
    async with connect(urls.queue, urls.store, urls.cache) as connection:
        if wait or timeout is not None:
            scope = DeadLetterScope(DeadLetters(connection.queue, topic), None) if topic else None
            value = await _value(connection, named, timeout, scope, silent=quiet or as_json)
        else:
            found = await connection.value(named.call.call_hash)
            if found is None:
                raise NotFoundError(
                    f"the call {named.call.call_hash} of {task!r} has no value",
                    remedy="Wait for it with --wait, or check the dead letters: brrr dead list.",
                )
            value = found
    named.write_value(value)


async def status(
    task: Annotated[str, Parameter(help="The name of the task.")],
    /,
    *arguments: ArgumentTokens,
    options: CallOptions = NO_OPTIONS,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show whether a call is done, failed, dead-lettered, retrying, scheduled or unknown.

    Pass the arguments with which the call was scheduled: they identify it.
    """
    del verbose  # `report` reads it from the command line
    named = named_call(task, arguments, options)
    async with connect(urls.queue, urls.store, urls.cache) as connection:
        found = await read_status(connection, named.call.call_hash, partial(DeadLetters, connection.queue))
    if as_json:
        write_json(_as_json(found))
    else:
        write_line(f"{task} is {_state(found)}")


async def show(
    call_hash: Annotated[str, Parameter(name="HASH", help="The call hash, as logs and dead letters name it.")],
    /,
    *,
    codec: CodecName = "json",
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show a call by its hash: its task and arguments, its state, the calls that wait for it, and its outcome."""
    del verbose  # `report` reads it from the command line
    reader = load_codec(codec)
    async with connect(urls.queue, urls.store, urls.cache) as connection:
        found = await read_status(connection, call_hash, partial(DeadLetters, connection.queue))
    if found.state == "unknown":
        raise NotFoundError(
            f"the store has no record of the call {call_hash}",
            remedy="Check the hash, and that --store is the store of its workers.",
        )
    if as_json:
        write_json({**_as_json(found), **await _decoded(found, reader)})
        return
    write_line(f"{found.task_name or 'an event'} is {_state(found)}")
    for name, value in (await _decoded(found, reader)).items():
        if value is not None:
            write_line(f"{name}: {json.dumps(value, ensure_ascii=False, default=str)}")
    for waiter in found.waiters:
        write_line(f"wakes {waiter.call_hash} on {waiter.topic}")


def _state(found: CallStatus) -> str:
    """Return the state of a call in words."""
    now = int(time.time())
    ago = "" if found.since is None else f"{max(0, now - found.since)} s ago"
    reason = "" if found.reason is None else f": {found.reason}"
    if found.due is not None:
        due = f"the next one is due in {max(0, found.due - now)} s"
        return f"{found.state}: attempt {found.attempt} failed on {found.topic} {ago}, and {due}{reason}"
    place = "" if found.dead_call is None else f", by the dead letter of {found.dead_call} on {found.topic}"
    return f"{found.state}{ago and f', {ago}'}{place}{reason}"


def _as_json(found: CallStatus) -> dict[str, object]:
    """Return the status for machines. Encoded arguments and values are not for them."""
    fields = found._asdict()
    del fields["payload"], fields["value"]
    return {**fields, "waiters": [waiter._asdict() for waiter in found.waiters]}


async def _decoded(found: CallStatus, codec: Codec) -> dict[str, object]:
    """Return the arguments and the result of a call, as the codec reads them; None for each that is missing."""
    given: dict[str, object] = {"args": None, "kwargs": None, "result": None}
    name = found.task_name

    async def take(*args: object, **kwargs: object) -> None:
        given.update(args=list(args), kwargs=kwargs or None)

    if name is not None and found.payload is not None:
        await codec.invoke_task(Call(name, found.payload, found.call_hash), take)
    if name is not None and found.value is not None:
        given["result"] = codec.decode_return(name, found.value)
    return given


async def complete(
    task: Annotated[str, Parameter(help="The name of the task, or of the event.")],
    /,
    *arguments: ArgumentTokens,
    value: Annotated[str | None, Parameter(show_default=False, help="The result: JSON, or else plain text.")] = None,
    failure: Annotated[str | None, Parameter(show_default=False, help="The reason, if it failed.")] = None,
    event: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Complete an event, which handlers await with app.event.")
    ] = False,
    options: CallOptions = NO_OPTIONS,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Give an event or a call its outcome by hand, and wake the handlers that wait for it.

    Write --value JSON or --failure REASON. The first outcome stays, so you may repeat the command: it then wakes the
    handlers again.
    """
    del verbose  # `report` reads it from the command line
    if (value is None) == (failure is None):
        raise CommandError("the outcome is missing or given twice", remedy="Write either --value or --failure.")
    named = named_call(EVENT + task if event else task, arguments, options)
    record = await named.encode_value(value) if value is not None else encode_failure(failure_by_hand(failure or ""))
    async with connect(urls.queue, urls.store, urls.cache) as connection:
        first = await connection.settle(named.call.call_hash, record)
    if as_json:
        write_json({"call_hash": named.call.call_hash, "first": first})
    else:
        outcome = "completed" if first else "woke the callers again: it had an outcome before,"
        write_line(f"{outcome} {'event' if event else 'call'} {task}: {named.call.call_hash}")


async def _value(
    connection: Connection, named: NamedCall, timeout: float | None, scope: DeadLetterScope | None, *, silent: bool
) -> bytes:
    with progress_of(named.call.task_name, silent=silent) as progress:
        letters = cache(partial(DeadLetters, connection.queue))
        return await wait_for_value(
            connection, named.call, timeout=timeout, scope=lambda: scope, letters=letters, show=progress.show
        )


def _tell(task: str, done: Scheduled, *, as_json: bool) -> None:
    if as_json:
        write_json(done._asdict())
    else:
        write_line(_said(task, done))


def _said(task: str, done: Scheduled) -> str:
    match done.state:
        case "put":
            return f"scheduled {task} on {done.topic}: call {done.call_hash}, root {done.root_id}"
        case "scheduled":
            ago = max(0, int(time.time()) - (done.since or 0))
            return f"{task} was scheduled already, {ago} s ago; --redrive puts it again: call {done.call_hash}"
        case "done":
            return f"{task} has a result already: call {done.call_hash}"
        case "failed":
            return f"{task} failed already; `brrr result` shows the failure: call {done.call_hash}"
