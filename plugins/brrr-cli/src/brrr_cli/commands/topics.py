"""`brrr topics`, `queue`, `peek` and `purge`: list and watch topics, look at their messages, and delete these."""

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple

from cyclopts import Parameter

from brrr_cli.errors import ExitCode
from brrr_cli.known_topics import check_known
from brrr_cli.options import (
    NO_URLS,
    AsJson,
    Count,
    DurationOption,
    Topic,
    Urls,
    Verbose,
    Yes,
    open_queue,
    open_queue_and_store,
)
from brrr_cli.output import confirmed, note, shown, write_json, write_line, write_table
from brrr_core.backend import Activity, Duration, Inspector, Queue, QueueStats
from brrr_core.engine.letters import message_in, read_calls
from brrr_core.errors import CapabilityError, CommandError

__all__ = ["peek", "purge", "queue", "topics"]

COUNTS: Final = ("TOPIC", "READY", "LEASED", "DELAYED", "DEAD")
WATCHED: Final = ("READY", "LEASED", "DELAYED", "DEAD", "IN/S", "OUT/S", "NET/S", "OLDEST", "RECEIVES", "TOPIC")


async def topics(*, urls: Urls = NO_URLS, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """List the topics with their ready, leased, delayed and dead messages.

    A topic is listed if it has a message or a dead letter. Some backends also list empty topics that were used before.
    """
    del verbose  # `report` reads it from the command line
    async with open_queue(urls) as opened:
        found = {topic: await opened.stats(topic) for topic in await _inspector(opened).topics()}
    _write_counts(found, as_json=as_json)


async def queue(
    *topics: Annotated[str, Parameter(help="The names of the queues.")],
    watch: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Count again and again, and show rates, until Ctrl-C.")
    ] = False,
    every: Annotated[DurationOption, Parameter(help="With --watch: the time between two counts.")] = Duration(2),
    count: Annotated[
        Count | None, Parameter(show_default=False, help="With --watch: end after this number of counts.")
    ] = None,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show how many messages topics hold.

    The table shows ready, leased, delayed and dead messages. The figures are approximate if the backend's are. --watch
    adds the messages that come in and go out per second, the age of the oldest ready message, and whether anything
    receives. ? is a figure that the backend does not know.
    """
    del verbose  # `report` reads it from the command line
    if not topics:
        raise CommandError("no topic is named", remedy="Name one or more topics, or list them: brrr topics.")
    async with open_queue(urls) as opened:
        found = {topic: await opened.stats(topic) for topic in topics}
        if not watch:
            _write_counts(found, as_json=as_json)
        await check_known(opened, found)
        if watch:
            await _watch(opened, list(found), every=every, count=count, as_json=as_json)


async def peek(
    topic: Topic,
    /,
    *,
    limit: Annotated[Count, Parameter(help="The most messages.")] = 20,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show messages of a topic without receiving them: their states, and their calls if the store can be read."""
    del verbose  # `report` reads it from the command line
    async with open_queue_and_store(urls) as (opened, store):
        inspector = _inspector(opened)
        stats = await opened.stats(topic)
        await check_known(opened, {topic: stats})
        found = await inspector.peek(topic, limit=limit)
        messages = [message_in(each.body) for each in found]
        hashes = [message.call_hash for message in messages if message is not None]
        calls = {} if store is None else await read_calls(store.read, hashes)
    rows: list[dict[str, str | None]] = []
    for (body, state), message in zip(found, messages, strict=True):
        call = calls.get(message.call_hash) if message else None
        rows.append(
            {
                "state": state,
                "call_hash": message.call_hash if message else None,
                "root_id": message.root_id if message else None,
                "task_name": call.task_name if call else None,
                "payload": shown(call.payload) if call else None,
                "body": shown(body),
            }
        )
    if as_json:
        write_json({"topic": topic, "messages": rows})
        return
    write_table(
        ("STATE", "TASK", "ARGUMENTS", "CALL"),
        [
            (
                row["state"] or "?",
                row["task_name"] or "?",
                row["payload"] or "",
                row["call_hash"] or f"body {row['body']}",
            )
            for row in rows
        ],
    )
    total = stats.ready + stats.leased + stats.delayed
    if total > len(rows):
        note(f"these are {len(rows)} of {total}; --limit shows more")


async def purge(
    topic: Topic,
    /,
    *,
    yes: Yes = False,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> int:
    """Delete the ready and the delayed messages of a topic for good. Dead letters stay.

    The command asks first. Without a terminal it needs --yes. Callers of the deleted calls keep waiting, until you
    put these calls again: brrr redrive TASK ARGUMENTS.
    """
    del verbose  # `report` reads it from the command line
    async with open_queue(urls) as opened:
        inspector = _inspector(opened)
        stats = await opened.stats(topic)
        await check_known(opened, {topic: stats})
        wanted = stats.ready + stats.delayed
        if wanted and not yes and not await confirmed(f"Delete {_messages(wanted)} of {topic} for good?"):
            note("nothing was deleted")
            return ExitCode.FAILURE
        deleted = await inspector.purge(topic)
    if as_json:
        write_json({"topic": topic, "purged": deleted})
        return ExitCode.OK
    write_line(f"deleted {_messages(deleted)} of {topic}")
    if deleted:
        note("calls that wait for theirs keep waiting until you put these again: brrr redrive TASK ARGUMENTS")
    return ExitCode.OK


class _Sample(NamedTuple):
    """The figures of a topic at one time, in seconds."""

    at: float
    stats: QueueStats
    activity: Activity


async def _watch(queue: Queue, topics: list[str], *, every: float, count: int | None, as_json: bool) -> None:
    before: dict[str, _Sample] = {}
    number = 0
    if not as_json:
        write_line(_line(WATCHED))
    while True:
        for topic in topics:
            activity = Activity() if queue.inspector is None else await queue.inspector.activity(topic)
            sample = _Sample(time.monotonic(), await queue.stats(topic), activity)
            figures = _figures(before.get(topic), sample)
            before[topic] = sample
            if as_json:
                write_json({"topic": topic, **sample.stats._asdict(), **figures})
            else:
                cells = [*map(str, sample.stats), *(_cell(each) for each in figures.values()), topic]
                write_line(_line(cells))
        sys.stdout.flush()
        number += 1
        if number == count:
            return
        await asyncio.sleep(every)


def _figures(before: _Sample | None, now: _Sample) -> Mapping[str, float | bool | None]:
    """Return the rates since the previous sample, and the activity; None for an unknown figure."""
    into = out = net = None
    if before is not None and now.at > before.at:
        seconds = now.at - before.at
        net = (sum(now.stats[:3]) - sum(before.stats[:3])) / seconds
        if now.activity.delivered is not None and before.activity.delivered is not None:
            out = (now.activity.delivered - before.activity.delivered) / seconds
            into = out + (now.stats.ready + now.stats.delayed - before.stats.ready - before.stats.delayed) / seconds
    return {
        "in_per_second": into,
        "out_per_second": out,
        "net_per_second": net,
        "oldest_ready": now.activity.oldest_ready,
        "receiving": now.activity.receiving,
    }


def _cell(value: float | bool | None) -> str:
    match value:
        case None:
            return "?"
        case bool():
            return "yes" if value else "no"
        case _:
            return f"{value:.1f}"


def _line(cells: tuple[str, ...] | list[str]) -> str:
    """Return a line with columns of fixed widths; the last one has any width."""
    return "".join(f"{cell:>8}  " for cell in cells[:-1]) + cells[-1]


def _inspector(queue: Queue) -> Inspector:
    if queue.inspector is None:
        raise CapabilityError(
            "this queue can neither list its topics nor show or purge their messages",
            remedy="`brrr queue TOPIC` counts the messages of a topic that you name. Use the tools of the server.",
        )
    return queue.inspector


def _write_counts(found: Mapping[str, QueueStats], *, as_json: bool) -> None:
    if as_json:
        write_json({"topics": [{"topic": topic, **stats._asdict()} for topic, stats in found.items()]})
    else:
        write_table(COUNTS, [(topic, *map(str, stats)) for topic, stats in found.items()])


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"
