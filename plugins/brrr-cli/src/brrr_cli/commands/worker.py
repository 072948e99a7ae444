"""`brrr worker`: run the calls of topics, in one or more processes."""

import asyncio
import sys
from dataclasses import asdict, dataclass
from typing import Annotated, Final

from cyclopts import Parameter

from brrr_cli.handlers import load_handlers, load_hook_plugin, load_lifespan, load_schedules
from brrr_cli.logs import log_to_stderr
from brrr_cli.options import (
    NO_URLS,
    CodecName,
    Count,
    DurationOption,
    Quiet,
    SizeOption,
    Tokens,
    Urls,
    Verbose,
)
from brrr_cli.supervisor import Supervisor
from brrr_cli.worker_process import LogStyle, LoopName, Work, leave, run_on_loop, run_worker
from brrr_core import Policy
from brrr_core.backend import Duration, Size
from brrr_core.engine.policy import OnExhausted

__all__ = ["Limits", "worker"]

_CACHE_BYTES: Final = Size(Policy().cache_bytes)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Limits:
    """The settings of a worker: `Policy` as command-line options.

    Attributes:
        max_attempts: The most attempts of a call whose handler raises.
        on_exhausted: For a call without attempts left: "bury" dead-letters it, "fail" also lets it fail for its
            callers.
        max_deliveries: Messages delivered more often than this are dead-lettered without running.
        max_crashes: A call that ended its worker process this many times while it ran alone is dead-lettered.
        spawn_limit: The most messages that one schedule may cause.
        backoff: The delay before the second attempt; it doubles with each attempt.
        backoff_limit: The longest delay between two attempts.
        grace: The time that running handlers have to finish when the worker stops.
        unavailable_timeout: How long to retry a backend that does not answer.
        resend_after: A call that was put this long ago, and has no outcome, is put again when it is called again.
        stale_after: A call that was put this long ago, and has no outcome, is logged; 0 logs none.
        park: How long to keep the handler of a deferred call suspended; 0 runs it again from its start immediately.
        cache_bytes: The most bytes of values to keep in memory.
        check: Compare each re-run's calls with the run before, and dead-letter calls whose runs differ.
    """

    max_attempts: Count = Policy().max_attempts
    on_exhausted: OnExhausted = Policy().on_exhausted
    max_deliveries: Count = Policy().max_deliveries
    max_crashes: Count = Policy().max_crashes
    spawn_limit: Count = Policy().spawn_limit
    backoff: DurationOption = Duration(Policy().backoff)
    backoff_limit: DurationOption = Duration(Policy().backoff_limit)
    grace: DurationOption = Duration(Policy().grace)
    unavailable_timeout: DurationOption = Duration(Policy().unavailable_timeout)
    resend_after: DurationOption = Duration(Policy().resend_after or 0)
    stale_after: DurationOption = Duration(Policy().stale_after or 0)
    park: DurationOption = Duration(Policy().park)
    cache_bytes: SizeOption = _CACHE_BYTES
    check: Annotated[bool, Parameter(negative=(), show_default=False)] = False

    def policy(self) -> Policy:
        """Return the policy with these limits."""
        settings = asdict(self)
        settings["stale_after"] = self.stale_after or None
        return Policy(**settings)


NO_LIMITS: Final = Limits()


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
    topic: Annotated[
        list[str],
        Parameter(
            help="A topic to work on, or TOPIC:CONCURRENCY for its own concurrency. It may be repeated.",
            negative=(),
        ),
    ],
    concurrency: Annotated[
        Count, Parameter(help="The most calls that run at a time, for each topic and process.")
    ] = 64,
    schedules: Annotated[
        str | None,
        Parameter(help="MODULE:NAME of a list of recurring schedules. Their calls go to the first topic by default."),
    ] = None,
    lifespan: Annotated[
        str | None,
        Parameter(help="MODULE:NAME of an async context manager function that yields the state of each process."),
    ] = None,
    hooks: Annotated[
        list[str], Parameter(help="MODULE:NAME, or MODULE, of a hook plugin. It may be repeated.", negative=())
    ] = [],  # noqa: B006 - cyclopts reads the default, and it is never changed
    processes: Annotated[Count, Parameter(help="The number of processes; one that ends is replaced.")] = 1,
    loop: Annotated[
        LoopName, Parameter(help="The event loop. auto is uvloop if it is installed, and that of asyncio otherwise.")
    ] = "auto",
    codec: CodecName = "json",
    urls: Urls = NO_URLS,
    limits: Limits = NO_LIMITS,
    as_json: Annotated[
        bool, Parameter(name="--json", negative=(), show_default=False, help="Write the reason of a failure as JSON.")
    ] = False,
    log: Annotated[LogStyle, Parameter(help="The form of each line of the log.")] = "text",
    quiet: Quiet = False,
    verbose: Verbose = False,
    supervised: Annotated[bool, Parameter(show=False, negative=())] = False,
    tokens: Tokens,
) -> int:
    """Run the calls of topics until you stop it.

    SIGTERM and SIGINT (Ctrl-C) stop the worker. After the first signal, running handlers may finish within --grace;
    unfinished calls go back to their topic, and nothing is lost. A second signal ends the handlers immediately.

    With --processes, all processes stop when this process stops or dies. A process that ends by itself is replaced. If
    the processes keep ending right after their start, this command gives up with code 1.
    """
    del as_json  # `report` reads it from the command line
    log_to_stderr(tokens, quiet=quiet, verbose=verbose, style=log)
    if processes > 1 and not supervised:
        command = [sys.executable, "-m", "brrr_cli", tokens[0], "--supervised", *tokens[1:]]
        return asyncio.run(Supervisor(command, processes).run())
    work = Work(
        handlers=load_handlers(handlers),
        topics=dict(_topic_and_concurrency(each, concurrency) for each in topic),
        urls=urls,
        codec=codec,
        policy=limits.policy(),
        schedules=() if schedules is None else load_schedules(schedules),
        hooks=[load_hook_plugin(each) for each in hooks],
        lifespan=None if lifespan is None else load_lifespan(lifespan),
        verbose=verbose,
        log=log,
    )
    return leave(run_on_loop(run_worker(work, supervised=supervised), loop))


def _topic_and_concurrency(named: str, concurrency: int) -> tuple[str, int]:
    topic, colon, number = named.rpartition(":")
    return (topic, int(number)) if colon and number.isdecimal() else (named, concurrency)
