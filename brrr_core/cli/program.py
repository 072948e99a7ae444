"""Find the command of a command line, run it, and turn its errors into a line and an exit code."""

import asyncio
import inspect
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from cyclopts import App, CycloptsError

from brrr_core.cli.commands import COMMANDS, GROUPS
from brrr_core.cli.exit_codes import ExitCode, exit_code_of, signal_exit_code
from brrr_core.cli.installed import installed_commands, unusable_commands
from brrr_core.cli.misspelt import suggest_options
from brrr_core.cli.output import note
from brrr_core.cli.reporting import first_error, has_switch, report
from brrr_core.engine.termination import add_handler, exiting, remove_handler
from brrr_core.errors import BrrrError, CommandError, SignatureError

__all__ = ["make_app", "run"]

SIGPIPE: Final = 13  # `signal` does not define it on every system

HELP: Final = """\
Durable execution without a server: run workers, schedule calls, manage queues.

Exit codes: 0 success; 1 a failure, for example of a backend; 2 a command line that cannot run; 3 no result (yet);
4 no result in time; 5 the call was dead-lettered; 128 plus the number of the signal that ended the command.
"""


def make_app(tokens: Sequence[str] = ()) -> App:
    """Create the app with all commands, from their functions' signatures and docstrings.

    Args:
        tokens: The command line. An installed command is imported only if the command line calls it.

    Raises:
        PluginError: The installed command that the command line calls cannot be used.
    """
    built_in = {command.name.split()[0] for command in COMMANDS}
    app = App(name="brrr", help="\n\n".join([HELP, *unusable_commands(built_in)]), version=_version)
    groups = {name: App(name=name, help=summary) for name, summary in GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for command in COMMANDS:
        words = command.name.split()
        name, parent = words[-1], groups[words[0]] if len(words) > 1 else app
        parent.command(command.function, name=name)
    installed = {each.name: each for each in installed_commands(built_in)}
    for each in installed.values():
        app.command(App(name=each.name, help=each.summary, show=bool(each.claims)))
    called, _, _ = app.parse_commands([token for token in tokens if token not in app.help_flags])
    for name in called:
        if name in installed:
            function = installed[name].load()
            del app[name]
            app.command(function, name=name)
    return app


def run(tokens: Sequence[str]) -> int:
    """Run the command of a command line, and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # escapes characters that the terminal's encoding lacks
            reconfigure(errors="backslashreplace")
    app = App()
    try:
        with exiting(signal.SIGTERM):
            app = make_app(tokens)
            code = _run(app, tokens)
        _note_misspelt(app, tokens)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has closed it. Discard the rest of the buffer quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return signal_exit_code(SIGPIPE)
    except KeyboardInterrupt:
        return signal_exit_code(signal.SIGINT)
    except Exception as raised:  # noqa: BLE001 - the only place that reports errors
        error = first_error(raised)
        # With --handlers, the task accepted its arguments unless the error is about them.
        asks = isinstance(error, (CommandError, SignatureError) if _has_handlers(tokens) else BrrrError)
        report(error, tokens, hint=suggest_options(app, tokens) if asks else "")
        return exit_code_of(error)
    return code


def _run(app: App, tokens: Sequence[str]) -> int:
    try:
        command, bound, unparsed = app.parse_args(list(tokens), print_error=False, exit_on_error=False)
    except CycloptsError as error:
        raise _usage(error) from error
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
        return signal_exit_code(signal.SIGTERM)
    finally:
        remove_handler(signal.SIGTERM)


def _note_misspelt(app: App, tokens: Sequence[str]) -> None:
    """Warn that a misspelt option may have scheduled the wrong call. --handlers would have refused it."""
    hint = (
        "" if _has_handlers(tokens) or has_switch(tokens, "--json", "--quiet", "-q") else suggest_options(app, tokens)
    )
    if hint:
        note(hint)


def _has_handlers(tokens: Sequence[str]) -> bool:
    return has_switch([token.partition("=")[0] for token in tokens], "--handlers")


def _usage(error: CycloptsError) -> CommandError:
    what = str(error).strip().rstrip(".?")
    return CommandError(
        what[:1].lower() + what[1:], remedy=f"See {' '.join(['brrr', *(error.command_chain or ()), '--help'])}."
    )


def _version() -> str:
    from importlib.metadata import version

    return f"brrr-core {version('brrr-core')}"
