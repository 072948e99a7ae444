"""`brrr cancel` and `brrr retry`: cancel a call or a schedule; run a failed call again."""

from typing import Annotated

from cyclopts import Parameter

from brrr_cli.arguments import NO_OPTIONS, ArgumentTokens, CallOptions, named_call
from brrr_cli.options import NO_URLS, AsJson, Topic, Urls, Verbose
from brrr_cli.output import write_json, write_line
from brrr_core import connect
from brrr_core.errors import CommandError

__all__ = ["cancel", "retry"]


async def cancel(
    task: Annotated[str | None, Parameter(show_default=False, help="The name of the task.")] = None,
    /,
    *arguments: ArgumentTokens,
    topic: Annotated[str | None, Parameter(show_default=False, help="The topic of the call.")] = None,
    root: Annotated[
        str | None, Parameter(show_default=False, help="A root id: cancel its whole schedule instead of a call.")
    ] = None,
    resume: Annotated[
        bool, Parameter(negative=(), show_default=False, help="With --root: undo the cancellation of the schedule.")
    ] = False,
    force: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Let the call fail immediately, without any cleanup.")
    ] = False,
    options: CallOptions = NO_OPTIONS,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Cancel a call, or with --root a whole schedule.

    The next run of its handler gets `Cancelled`, and may clean up. Pass the arguments with which the call was
    scheduled: they identify it. With --root, workers drop the messages of the schedule, and nothing is cleaned up.

    Repeating the command is safe.
    """
    del verbose  # `report` reads it from the command line
    if (task is None) == (root is None):
        raise CommandError("cancel needs a task or --root, and not both", remedy="See brrr cancel --help.")
    if resume and root is None:
        raise CommandError("--resume needs --root", remedy="A cancelled call is run again by brrr retry.")
    async with connect(urls.queue, urls.store, urls.cache) as connection:
        if root is not None:
            await (connection.resume_schedule if resume else connection.cancel_schedule)(root)
            if as_json:
                write_json({"root_id": root, "cancelled": not resume})
            else:
                write_line(f"{'resumed' if resume else 'cancelled'} the schedule {root}")
            return
        if topic is None:
            raise CommandError("the topic of the call is not given", remedy="Add --topic TOPIC.")
        assert task is not None  # noqa: S101 - checked above
        call = named_call(task, arguments, options).call
        cancelled = await connection.cancel(call, topic, force=force)
    if as_json:
        write_json({"call_hash": call.call_hash, "topic": topic, "cancelled": cancelled})
    elif cancelled:
        write_line(f"cancelled {task} on {topic}: call {call.call_hash}")
    else:
        write_line(f"{task} has an outcome already: call {call.call_hash}")


async def retry(
    task: Annotated[str, Parameter(help="The name of the task.")],
    /,
    *arguments: ArgumentTokens,
    topic: Topic,
    options: CallOptions = NO_OPTIONS,
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Run a call again that failed or was cancelled, with the failed calls that made it fail.

    Pass the arguments with which the call was scheduled: they identify it. Repeating the command is safe.
    """
    del verbose  # `report` reads it from the command line
    call = named_call(task, arguments, options).call
    async with connect(urls.queue, urls.store, urls.cache) as connection:
        root_id = await connection.retry(call, topic)
    if as_json:
        write_json({"call_hash": call.call_hash, "root_id": root_id, "topic": topic})
    elif root_id is None:
        write_line(f"{task} has no failure to retry: call {call.call_hash}")
    else:
        write_line(f"scheduled {task} on {topic}: call {call.call_hash}, root {root_id}")
