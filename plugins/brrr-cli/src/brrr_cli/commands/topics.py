"""`brrr queue` and `brrr dead`: count the messages of topics; show, redrive or drop their dead letters."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final, NamedTuple, TypeAlias

from cyclopts import Parameter
from cyclopts.validators import Number

from brrr_cli.errors import ExitCode
from brrr_cli.options import NO_URLS, AsJson, Topic, Urls, Verbose, open_queue, open_queue_and_store
from brrr_cli.output import note, shown, write_json, write_line, write_table
from brrr_core import connect
from brrr_core.backend import DeadLetter, Key, Queue, Store
from brrr_core.engine.letters import message_of
from brrr_core.errors import CommandError, MalformedRecordError
from brrr_core.wire import Call, ScheduleMessage, decode_call

__all__ = ["drop", "list_dead", "queue", "redrive"]

DEFAULT_LIMIT: Final = 20
BATCH: Final = 1_000
UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60))

Limit: TypeAlias = Annotated[int | None, Parameter(validator=Number(gte=1), help="The most dead letters.")]


class _Letter(NamedTuple):
    """A dead letter, its message (None if the body is invalid) and its call (None if the record cannot be read)."""

    dead: DeadLetter
    message: ScheduleMessage | None
    call: Call | None


async def queue(
    *topics: Annotated[str, Parameter(help="The names of the queues.")],
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show how many messages topics hold.

    The table shows ready, leased, delayed and dead messages. The figures are approximate if the backend's are.
    """
    del verbose  # `report` reads it from the command line
    if not topics:
        raise CommandError("no topic is named", remedy="Name one or more topics. A queue cannot list them.")
    async with open_queue(urls) as opened:
        found = {topic: await opened.stats(topic) for topic in topics}
    if as_json:
        write_json({"topics": [{"topic": topic, **stats._asdict()} for topic, stats in found.items()]})
    else:
        rows = [(topic, *map(str, stats)) for topic, stats in found.items()]
        write_table(("TOPIC", "READY", "LEASED", "DELAYED", "DEAD"), rows)


async def list_dead(
    topic: Topic,
    /,
    *,
    limit: Limit = DEFAULT_LIMIT,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show the dead letters of a topic, oldest first.

    The list shows the task and its arguments if the store can be read, and the reason. -v shows the whole reason.
    """
    async with open_queue_and_store(urls) as (queue, store):
        letters = await _read_letters(queue, store, topic, limit=limit or (await queue.stats(topic)).dead or 1)
        total = (await queue.stats(topic)).dead
    if as_json:
        write_json({"topic": topic, "total": total, "dead": [_as_json(letter) for letter in letters]})
    elif verbose:
        for letter in letters:
            _write_whole(letter)
    else:
        write_table(("AGE", "ATTEMPT", "TASK", "ARGUMENTS", "REASON"), [_row(letter) for letter in letters])
    if total > len(letters) and not as_json:
        note(f"these are the oldest {len(letters)} of {total}; --limit shows more")


async def redrive(
    topic: Topic,
    /,
    *,
    limit: Limit = None,
    failed: Annotated[
        bool,
        Parameter(
            negative=(), show_default=False, help="Take back the failures of their calls, so that they run again."
        ),
    ] = False,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Put dead letters back on their topic, oldest first.

    They become new messages, whose attempts count from 1. A call that failed for good has a failure beside its dead
    letter, and does not run again without --failed.
    """
    del verbose  # `report` reads it from the command line
    if failed:
        async with connect(urls.queue, urls.store, urls.cache) as connection:
            wanted = limit or (await connection.queue.stats(topic)).dead
            count = await _in_batches(connection.redrive, topic, wanted)
    else:
        async with open_queue(urls) as queue:
            count = await _in_batches(queue.redrive, topic, limit or (await queue.stats(topic)).dead)
    if as_json:
        write_json({"topic": topic, "redriven": count})
    else:
        write_line(f"put {_letters(count)} of {topic} back")


async def drop(
    topic: Topic,
    /,
    *,
    limit: Limit = None,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"), negative=(), show_default=False, help="Do not ask.")] = False,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> int:
    """Delete dead letters for good, oldest first.

    The command asks first. Without a terminal it needs --yes.
    """
    del verbose  # `report` reads it from the command line
    async with open_queue(urls) as queue:
        total = (await queue.stats(topic)).dead
        wanted = total if limit is None else min(limit, total)
        if wanted and not yes and not await _confirmed(topic, wanted):
            note("nothing was deleted")
            return ExitCode.FAILURE
        count = await _in_batches(queue.drop, topic, wanted)
    if as_json:
        write_json({"topic": topic, "dropped": count})
    else:
        write_line(f"deleted {_letters(count)} of {topic}")
    return ExitCode.OK


async def _read_letters(queue: Queue, store: Store | None, topic: str, *, limit: int) -> list[_Letter]:
    """Read up to `limit` dead letters of a topic, oldest first, with the calls that the store has.

    Raises:
        BackendError: The queue or the store failed.
    """
    letters = [_Letter(dead, message_of(dead), None) for dead in await queue.dead(topic, limit=limit)]
    if store is None:
        return letters
    hashes = list(dict.fromkeys(letter.message.call_hash for letter in letters if letter.message is not None))
    calls = await _read_calls(store, hashes)
    return [letter._replace(call=calls.get(letter.message.call_hash)) if letter.message else letter
            for letter in letters]  # fmt: skip


async def _read_calls(store: Store, hashes: Sequence[str]) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    records = await store.read([Key("call", call_hash) for call_hash in hashes])
    for call_hash, record in zip(hashes, records, strict=True):
        if record is None:
            continue
        try:
            calls[call_hash] = decode_call(call_hash, record)
        except MalformedRecordError:
            continue
    return calls


async def _in_batches(act: Callable[..., Awaitable[int]], topic: str, wanted: int) -> int:
    """Act on exactly `wanted` letters. Redriven messages may become dead letters again meanwhile; leave those alone."""
    done = 0
    while done < wanted:
        count = await act(topic, limit=min(BATCH, wanted - done))
        if count == 0:
            break
        done += count
    return done


async def _confirmed(topic: str, count: int) -> bool:
    if not sys.stdin.isatty():
        raise CommandError(
            f"deleting {_letters(count)} of {topic} needs a confirmation, and the input is not a terminal",
            remedy="Add --yes.",
        )
    sys.stderr.write(f"Delete {_letters(count)} of {topic} for good? [y/N] ")
    sys.stderr.flush()
    answer = await _read_line()
    return answer.strip().lower() in {"y", "yes"}


async def _read_line() -> str:
    """Read a line from the terminal. A signal can cancel this; it could not end a thread that reads."""
    loop = asyncio.get_running_loop()
    typed = asyncio.Event()
    try:
        loop.add_reader(sys.stdin.fileno(), typed.set)
    except NotImplementedError:  # Windows
        return await asyncio.to_thread(sys.stdin.readline)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline()


def _letters(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count} dead letters"


def _row(letter: _Letter) -> tuple[str, ...]:
    task, arguments = _call_of(letter)
    reason = letter.dead.reason.partition("\n")[0]
    return (_age(letter), str(letter.dead.attempt), task, arguments, reason)


def _write_whole(letter: _Letter) -> None:
    task, arguments = _call_of(letter)
    write_line(f"{task} {arguments}: attempt {letter.dead.attempt}, {_age(letter)} ago")
    if letter.message is not None:
        write_line(f"call {letter.message.call_hash}, root {letter.message.root_id}")
    write_line(f"{letter.dead.reason.rstrip()}\n")


def _call_of(letter: _Letter) -> tuple[str, str]:
    if letter.call is not None:
        return letter.call.task_name, shown(letter.call.payload)
    return "?", f"call {letter.message.call_hash}" if letter.message else f"body {shown(letter.dead.body)}"


def _as_json(letter: _Letter) -> dict[str, object]:
    dead, message, call = letter
    return {
        "call_hash": message.call_hash if message else None,
        "root_id": message.root_id if message else None,
        "task_name": call.task_name if call else None,
        "payload": shown(call.payload) if call else None,
        "body": shown(dead.body),
        "attempt": dead.attempt,
        "buried_at": dead.buried_at,
        "reason": dead.reason,
    }


def _age(letter: _Letter) -> str:
    seconds = max(0, int(time.time() - letter.dead.buried_at))
    for unit, length in UNITS:
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
