"""`brrr worker`: run the calls of one or several topics, in one process or in several."""

import asyncio
import sys
from typing import Annotated

from cyclopts import Parameter

from brrr_core.cli.handlers import load_handlers
from brrr_core.cli.logs import log_to_stderr
from brrr_core.cli.options import NO_LIMITS, NO_URLS, CodecName, Count, Limits, Quiet, Tokens, Urls, Verbose
from brrr_core.cli.processes import Supervisor
from brrr_core.cli.working import Work, leave, run_worker

__all__ = ["worker"]


def worker(
    handlers: Annotated[
        str,
        Parameter(
            help="MODULE for all handlers in it by their names, or MODULE:HANDLERS for a dict of handlers by name, "
            "a function that gives one, or a single handler."
        ),
    ],
    /,
    *,
    topic: Annotated[list[str], Parameter(help="Where calls come from. It may be given several times.", negative=())],
    concurrency: Annotated[
        Count, Parameter(help="The most calls under way at a time, of each topic and process.")
    ] = 64,
    processes: Annotated[Count, Parameter(help="How many processes; one that ends is replaced.")] = 1,
    codec: CodecName = "json",
    urls: Urls = NO_URLS,
    limits: Limits = NO_LIMITS,
    as_json: Annotated[
        bool, Parameter(name="--json", negative=(), show_default=False, help="Tell in JSON why the worker failed.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    supervised: Annotated[bool, Parameter(show=False, negative=())] = False,
    tokens: Tokens,
) -> int:
    """Run the calls of topics, until told to stop.

    SIGTERM and SIGINT (Ctrl-C) stop it. The first signal lets running handlers finish within --grace; what has not
    finished by then goes back to its topic, and nothing is lost. A second signal ends them at once.

    With --processes, all of them are told to stop when this process is, or when it dies. A process that ends unasked is
    replaced. If they end again and again as soon as they are started, this command gives up with code 1.
    """
    del as_json  # read from the command line where an error is reported
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
