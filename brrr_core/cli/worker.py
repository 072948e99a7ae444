"""`brrr worker`: run the calls of topics, in one or more processes."""

import asyncio
import sys
from typing import Annotated

from cyclopts import Parameter

from brrr_core.cli.handlers import load_handlers
from brrr_core.cli.logs import log_to_stderr
from brrr_core.cli.options import NO_LIMITS, NO_URLS, CodecName, Count, Limits, Quiet, Tokens, Urls, Verbose
from brrr_core.cli.supervisor import Supervisor
from brrr_core.cli.worker_process import Work, leave, run_worker

__all__ = ["worker"]


def worker(
    handlers: Annotated[
        str,
        Parameter(
            help="MODULE for all handlers in it by their names, or MODULE:HANDLERS for a dict of handlers by name, "
            "a function that returns one, or a single handler."
        ),
    ],
    /,
    *,
    topic: Annotated[list[str], Parameter(help="A topic to work on. It may be repeated.", negative=())],
    concurrency: Annotated[
        Count, Parameter(help="The most calls that run at a time, for each topic and process.")
    ] = 64,
    processes: Annotated[Count, Parameter(help="The number of processes; one that ends is replaced.")] = 1,
    codec: CodecName = "json",
    urls: Urls = NO_URLS,
    limits: Limits = NO_LIMITS,
    as_json: Annotated[
        bool, Parameter(name="--json", negative=(), show_default=False, help="Write the reason of a failure as JSON.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    supervised: Annotated[bool, Parameter(show=False, negative=())] = False,
    tokens: Tokens,
) -> int:
    """Run the calls of topics until you stop it.

    SIGTERM and SIGINT (Ctrl-C) stop the worker. After the first signal, running handlers may finish within --grace;
    unfinished calls go back to their topic, and nothing is lost. A second signal ends the handlers at once.

    With --processes, all processes stop when this process stops or dies. A process that ends by itself is replaced. If
    the processes keep ending right after their start, this command gives up with code 1.
    """
    del as_json  # `report` reads it from the command line
    log_to_stderr(tokens, quiet=quiet, verbose=verbose)
    if processes > 1 and not supervised:
        command = [sys.executable, "-m", "brrr_core", tokens[0], "--supervised", *tokens[1:]]
        return asyncio.run(Supervisor(command, processes).run())
    work = Work(
        handlers=load_handlers(handlers),
        topics=list(dict.fromkeys(topic)),
        urls=urls,
        codec=codec,
        policy=limits.policy(),
        concurrency=concurrency,
        verbose=verbose,
    )
    return leave(asyncio.run(run_worker(work, supervised=supervised)))
