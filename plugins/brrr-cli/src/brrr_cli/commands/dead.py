"""`brrr dead`: list, show, redrive, drop or complete dead letters of a topic, all of them or chosen ones."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple, TypeAlias

from cyclopts import Parameter
from cyclopts.validators import Number

from brrr_cli.arguments import read_value
from brrr_cli.errors import ExitCode
from brrr_cli.handlers import HandlersOption, load_handlers
from brrr_cli.known_topics import check_known
from brrr_cli.options import (
    NO_URLS,
    AsJson,
    CodecName,
    OptionalDuration,
    Topic,
    Urls,
    Verbose,
    Yes,
    open_queue_and_store,
)
from brrr_cli.output import confirmed, note, shown, write_json, write_line, write_table
from brrr_core import AppConsumer, Letter, LetterSelection, connect
from brrr_core.backend import Queue
from brrr_core.engine.letters import LOOKED_AT, LetterChoice, LetterSearch, Read
from brrr_core.errors import CommandError

__all__ = ["complete", "drop", "list_dead", "redrive", "show"]

DEFAULT_LIMIT: Final = 20
UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60))

Limit: TypeAlias = Annotated[
    int | None, Parameter(validator=Number(gte=1), show_default=False, help="The most dead letters, oldest first.")
]
All: TypeAlias = Annotated[
    bool, Parameter(name="--all", negative=(), show_default=False, help="All dead letters, and not only some of them.")
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Choice:
    """The options that choose dead letters. All that are given must hold.

    Attributes:
        id: The id of a dead letter, as --json and `dead show` give it. It may be repeated.
        task: The name of a task.
        hash: A call hash.
        reason: A part of the reason.
        older_than: The shortest time since they were dead-lettered, like 2h.
        newer_than: The longest time since they were dead-lettered, like 2h.
    """

    id: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = ()
    task: Annotated[str | None, Parameter(show_default=False)] = None
    hash: Annotated[str | None, Parameter(show_default=False)] = None
    reason: Annotated[str | None, Parameter(show_default=False)] = None
    older_than: OptionalDuration = None
    newer_than: OptionalDuration = None

    def letters(self) -> LetterChoice:
        """Return the choice for the engine."""
        return LetterChoice(
            ids=self.id or None,
            task=self.task,
            call_hash=self.hash,
            reason=self.reason,
            older_than=self.older_than,
            newer_than=self.newer_than,
        )


ANY: Final = Choice()


class _OpenTopic(NamedTuple):
    """A topic, its queue, and the function that reads its store; None without a store."""

    topic: str
    queue: Queue
    read: Read | None

    def search(self, choice: LetterChoice, limit: int | None) -> LetterSearch:
        """Return a search."""
        return LetterSearch(self.queue, self.topic, choice, limit=limit, read=self.read)


async def list_dead(
    topic: Topic,
    /,
    *,
    choice: Choice = ANY,
    limit: Limit = None,
    all_: All = False,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show dead letters of a topic, oldest first: 20 of them, or --limit, or --all.

    The list shows the task and its arguments if the store can be read, and the reason. -v shows them as `dead show`.
    """
    most = None if all_ else limit or DEFAULT_LIMIT
    async with _open_topic(topic, choice, urls) as opened:
        search = opened.search(choice.letters(), most)
        total = (await opened.queue.stats(topic)).dead
        if as_json:
            letters = [_as_json(letter) async for page in search.pages() for letter in page]
            write_json({"topic": topic, "total": total, "dead": letters})
            return
        if verbose:
            count = await _write_whole(search)
        else:
            rows = [_row(letter) async for page in search.pages() for letter in page]
            write_table(("AGE", "ATTEMPT", "TASK", "ARGUMENTS", "REASON"), rows)
            count = len(rows)
    if opened.queue.letters is None and total > LOOKED_AT:
        note(f"this queue shows only its {LOOKED_AT:,} oldest dead letters of {total:,}")
    elif most is not None and count == most < total:
        what = "of" if choice == ANY else "that fit, among"
        note(f"these are the oldest {count} {what} {total}; --limit and --all show more")


async def show(
    topic: Topic,
    /,
    *,
    choice: Choice = ANY,
    limit: Limit = None,
    all_: All = False,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show dead letters of a topic with their ids, their calls and their whole reasons, oldest first.

    It shows one, or --limit, or --all. Choose one with --id or --hash.
    """
    del verbose  # it shows everything
    await list_dead(topic, choice=choice, limit=limit or 1, all_=all_, urls=urls, as_json=as_json, verbose=True)


async def redrive(
    topic: Topic,
    /,
    *,
    choice: Choice = ANY,
    limit: Limit = None,
    failed: Annotated[
        bool,
        Parameter(negative=(), show_default=False, help="Delete the failures of their calls, so that they run again."),
    ] = False,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Put dead letters back on their topic, oldest first: all, or those chosen.

    They become new messages, whose attempts count from 1. A call that failed for good has a failure in addition to its
    dead letter, and does not run again without --failed.
    """
    del verbose  # `report` reads it from the command line
    if failed:
        async with connect(urls.queue, urls.store, urls.cache) as connection:
            await check_known(connection.queue, {topic: await connection.queue.stats(topic)})
            client = AppConsumer(codec="json", connection=connection)
            count = await _selection(client, topic, choice, limit).redrive(failed=True)
    else:
        async with _open_topic(topic, choice, urls) as opened:
            count = await opened.search(choice.letters(), limit).redrive()
    if as_json:
        write_json({"topic": topic, "redriven": count})
    else:
        write_line(f"put {_letters(count)} of {topic} back")


async def drop(
    topic: Topic,
    /,
    *,
    choice: Choice = ANY,
    limit: Limit = None,
    yes: Yes = False,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> int:
    """Delete dead letters for good, oldest first: all, or those chosen.

    The command asks first. Without a terminal it needs --yes. Callers of the deleted calls keep waiting, until you
    put these calls again: brrr redrive TASK ARGUMENTS.
    """
    del verbose  # `report` reads it from the command line
    async with _open_topic(topic, choice, urls) as opened:
        search = opened.search(choice.letters(), limit)
        if not yes:
            wanted, search = await _counted(opened, search, choice, limit)
            if wanted and not await confirmed(f"Delete {_letters(wanted)} of {topic} for good?"):
                note("nothing was deleted")
                return ExitCode.FAILURE
        count = await search.drop()
    if as_json:
        write_json({"topic": topic, "dropped": count})
    else:
        write_line(f"deleted {_letters(count)} of {topic}")
    return ExitCode.OK


async def complete(
    topic: Topic,
    /,
    *,
    value: Annotated[str | None, Parameter(show_default=False, help="The result: JSON, or else plain text.")] = None,
    failure: Annotated[str | None, Parameter(show_default=False, help="The reason, if they failed.")] = None,
    choice: Choice = ANY,
    limit: Limit = None,
    all_: All = False,
    yes: Yes = False,
    handlers: HandlersOption = None,
    codec: CodecName = "json",
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> int:
    """Give the calls of dead letters an outcome by hand, wake the calls that wait for them, and drop the dead letters.

    Write --value JSON or --failure REASON, and choose the dead letters, or --all. It asks first if there are several. A
    dead letter stays if its call cannot be read, or has already failed for good. Repeating the command is safe.
    """
    del verbose  # `report` reads it from the command line
    if (value is None) == (failure is None):
        raise CommandError("the outcome is missing or given twice", remedy="Write either --value or --failure.")
    if choice == ANY and limit is None and not all_:
        raise CommandError(
            "no dead letter is chosen", remedy="Choose some with --id, --hash or --task, or write --all."
        )
    tasks = {} if handlers is None else load_handlers(handlers)
    async with connect(urls.queue, urls.store, urls.cache) as connection:
        await check_known(connection.queue, {topic: await connection.queue.stats(topic)})
        client = AppConsumer(codec=codec, connection=connection, handlers=tasks)
        chosen = _selection(client, topic, choice, limit)
        if not yes and connection.queue.letters is not None:
            ids = [letter.id or "" async for letter in chosen]
            if len(ids) > 1 and not await confirmed(f"Complete the calls of {_letters(len(ids))} of {topic}?"):
                note("nothing was completed")
                return ExitCode.FAILURE
            chosen = client.dead_letters(topic, ids=ids)
        done = await (chosen.complete(read_value(value)) if value is not None else chosen.fail(failure or ""))
    if as_json:
        write_json({"topic": topic, **done._asdict()})
    else:
        write_line(f"completed the calls of {_letters(done.completed)} of {topic}")
        if done.kept:
            note(f"{_letters(done.kept)} stay: their calls cannot be read, or failed for good before")
    return ExitCode.OK


@asynccontextmanager
async def _open_topic(topic: str, choice: Choice, urls: Urls) -> AsyncGenerator[_OpenTopic, None]:
    async with open_queue_and_store(urls) as (queue, store):
        if store is None and choice.task is not None:
            raise CommandError(
                "without the store, the tasks of dead letters are not known",
                remedy="Leave out --task, or name --store.",
            )
        await check_known(queue, {topic: await queue.stats(topic)})
        yield _OpenTopic(topic, queue, None if store is None else store.read)


def _selection(client: AppConsumer, topic: str, choice: Choice, limit: int | None) -> LetterSelection:
    chosen = choice.letters()
    return client.dead_letters(
        topic,
        task=chosen.task,
        call_hash=chosen.call_hash,
        reason=chosen.reason,
        older_than=chosen.older_than,
        newer_than=chosen.newer_than,
        ids=choice.id or None,
        limit=limit,
    )


async def _counted(
    opened: _OpenTopic, search: LetterSearch, choice: Choice, limit: int | None
) -> tuple[int, LetterSearch]:
    """Return the number of the chosen dead letters, and a search for only these: others may be added."""
    if choice == ANY and opened.queue.letters is None:
        dead = (await opened.queue.stats(opened.topic)).dead
        wanted = dead if limit is None else min(limit, dead)
        return wanted, opened.search(choice.letters(), wanted)
    ids = await search.ids()
    return len(ids), opened.search(LetterChoice(ids=ids), None)


async def _write_whole(search: LetterSearch) -> int:
    count = 0
    async for page in search.pages():
        count += len(page)
        for letter in page:
            task, arguments = _call_of(letter)
            write_line(f"{task} {arguments}: attempt {letter.attempt}, {_age(letter)} ago")
            if letter.call_hash is not None:
                write_line(f"call {letter.call_hash}, root {letter.root_id}")
            if letter.id is not None:
                write_line(f"id {letter.id}")
            write_line(f"{letter.reason.rstrip()}\n")
    return count


def _letters(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count} dead letters"


def _row(letter: Letter) -> tuple[str, ...]:
    task, arguments = _call_of(letter)
    return (_age(letter), str(letter.attempt), task, arguments, letter.reason.partition("\n")[0])


def _call_of(letter: Letter) -> tuple[str, str]:
    if letter.task_name is not None:
        return letter.task_name, shown(letter.payload or b"")
    return "?", f"call {letter.call_hash}" if letter.call_hash else f"body {shown(letter.body)}"


def _as_json(letter: Letter) -> dict[str, object]:
    payload = None if letter.payload is None else shown(letter.payload)
    return {
        "id": letter.id,
        "call_hash": letter.call_hash,
        "root_id": letter.root_id,
        "task_name": letter.task_name,
        "payload": payload,
        "body": shown(letter.body),
        "attempt": letter.attempt,
        "buried_at": letter.buried_at,
        "reason": letter.reason,
    }


def _age(letter: Letter) -> str:
    seconds = max(0, int(time.time() - letter.buried_at))
    for unit, length in UNITS:
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
