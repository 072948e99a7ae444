"""The program: finds the command, runs it, and turns what it raises into a line and an exit code."""

import asyncio
import inspect
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from cyclopts import App, CycloptsError

from brrr_core.cli.commands import COMMANDS, GROUPS
from brrr_core.cli.exits import ExitCode, exit_code_of, killed_by
from brrr_core.cli.misspelt import hint_of
from brrr_core.cli.output import note
from brrr_core.cli.reporting import first_error, report, switched_on
from brrr_core.engine.termination import add_handler, exiting, remove_handler
from brrr_core.errors import BrrrError, CommandError, SignatureError

__all__ = ["make_app", "run"]

SIGPIPE: Final = 13  # which `signal` has not on every system

HELP: Final = """\
Durable execution without a server: run workers, schedule calls, look after queues.

Exit codes: 0 done; 1 a failure, of a backend for one; 2 a command line that cannot be run; 3 no result (yet);
4 no result in time; 5 the call was given up; 128 and the number of a signal that ended the command.
"""


def make_app() -> App:
    """All commands, from their functions' signatures and docstrings."""
    app = App(name="brrr", help=HELP, version=_version)
    groups = {name: App(name=name, help=summary) for name, summary in GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for command in COMMANDS:
        words = command.name.split()
        name, parent = words[-1], groups[words[0]] if len(words) > 1 else app
        parent.command(command.function, name=name)
    return app


def run(tokens: Sequence[str]) -> int:
    """Run the command of a command line. Its exit code."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a name in a foreign script is shown somehow, whatever the terminal's encoding
            reconfigure(errors="backslashreplace")
    app = make_app()
    try:
        with exiting(signal.SIGTERM):
            code = _run(app, tokens)
        _note_misspelt(app, tokens)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough. What is left in the buffer goes nowhere, quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return killed_by(SIGPIPE)
    except KeyboardInterrupt:
        return killed_by(signal.SIGINT)
    except Exception as raised:  # noqa: BLE001 - the one place where errors end
        error = first_error(raised)
        # A task that handlers describe took its arguments, unless the error is about them.
        asks = isinstance(error, (CommandError, SignatureError) if _has_handlers(tokens) else BrrrError)
        report(error, tokens, hint=hint_of(app, tokens) if asks else "")
        return exit_code_of(error)
    return code


def _run(app: App, tokens: Sequence[str]) -> int:
    try:
        command, bound, unparsed = app.parse_args(list(tokens), print_error=False, exit_on_error=False)
    except CycloptsError as error:
        raise _usage(error, tokens) from error
    known: dict[str, object] = {"tokens": tuple(tokens)}
    given = {name: known[name] for name in unparsed}
    return _finished(command, bound, given)


def _finished(command: Callable[..., Any], bound: inspect.BoundArguments, given: dict[str, object]) -> int:
    if inspect.iscoroutinefunction(command):
        outcome = asyncio.run(_until_sigterm(command(*bound.args, **bound.kwargs, **given)))
    else:
        outcome = command(*bound.args, **bound.kwargs, **given)
    return outcome if isinstance(outcome, int) else ExitCode.OK


async def _until_sigterm(command: Coroutine[Any, Any, object]) -> object:
    """Run a command; SIGTERM cancels it, as Ctrl-C does."""
    running = asyncio.ensure_future(command)
    add_handler(signal.SIGTERM, running.cancel)
    try:
        return await running
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        return killed_by(signal.SIGTERM)
    finally:
        remove_handler(signal.SIGTERM)


def _note_misspelt(app: App, tokens: Sequence[str]) -> None:
    """Nothing failed, but perhaps another call than the one that was meant was scheduled; handlers would have told."""
    hint = "" if _has_handlers(tokens) or switched_on(tokens, "--json", "--quiet", "-q") else hint_of(app, tokens)
    if hint:
        note(hint)


def _has_handlers(tokens: Sequence[str]) -> bool:
    return switched_on([token.partition("=")[0] for token in tokens], "--handlers")


def _usage(error: CycloptsError, tokens: Sequence[str]) -> CommandError:
    words: list[str] = []
    for token in tokens[:2]:
        if any(command.name.split()[: len(words) + 1] == [*words, token] for command in COMMANDS):
            words.append(token)
    what = str(error).strip().rstrip(".?")
    return CommandError(what[:1].lower() + what[1:], remedy=f"See {' '.join(['brrr', *words, '--help'])}.")


def _version() -> str:
    from importlib.metadata import version

    return f"brrr-core {version('brrr-core')}"
