"""`brrr result`: print the result of a call, or wait for it."""

from typing import Annotated

from cyclopts import Parameter

from brrr_core.app.serving import connect
from brrr_core.cli.arguments import ArgumentTokens, JsonArguments, JsonKeywords
from brrr_core.cli.calls import named_call
from brrr_core.cli.handlers import HandlersOption
from brrr_core.cli.options import NO_URLS, AsJson, CodecName, Quiet, Timeout, Urls, Verbose
from brrr_core.cli.progress import progress_of
from brrr_core.engine.waiting import DeadLetters, Watch, wait_for_value
from brrr_core.errors import NotFoundError

__all__ = ["result"]


async def result(
    task: Annotated[str, Parameter(help="The name of the task.")],
    /,
    *arguments: ArgumentTokens,
    args: JsonArguments = None,
    kwargs: JsonKeywords = None,
    handlers: HandlersOption = None,
    codec: CodecName = "json",
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
    yet. With --wait it is 4 if the call has no result in time, and 5 if --topic is given and the call is dead-lettered.
    """
    del verbose  # `report` reads it from the command line
    named = named_call(task, arguments, args=args, kwargs=kwargs, codec=codec, handlers=handlers)
    async with connect(urls.queue, urls.store, urls.cache) as connection:
        if wait or timeout is not None:
            watch = Watch(DeadLetters(connection.queue, topic), None) if topic else None
            with progress_of(task, silent=quiet or as_json) as progress:
                value = await wait_for_value(
                    connection, named.call, timeout=timeout, watch=lambda: watch, show=progress.show
                )
        else:
            found = await connection.value(named.call.call_hash)
            if found is None:
                raise NotFoundError(
                    f"the call {named.call.call_hash} of {task!r} has no value",
                    remedy="Wait for it with --wait, or check the dead letters: brrr dead list.",
                )
            value = found
    named.write_value(value)
