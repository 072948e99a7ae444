"""Find the command of a command line, run it, and turn its errors into a line and an exit code."""

import asyncio
import inspect
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple

from cyclopts import App, CycloptsError

from brrr_cli.arguments import CallOptions
from brrr_cli.commands import BUILT_IN, GROUPS, installed_commands, unusable_commands
from brrr_cli.errors import ExitCode, exit_code_of, first_error, report, signal_exit_code, suggest_options
from brrr_cli.output import note
from brrr_core.engine.termination import add_handler, exiting, remove_handler
from brrr_core.errors import BrrrError, CommandError, SignatureError

__all__ = ["Parsed", "main", "make_app", "parse"]

SIGPIPE: Final = 13  # `signal` does not define it on every system

HELP: Final = """\
Durable execution without a server: run workers, schedule calls, manage queues.

Exit codes: 0 success; 1 a failure, for example of a backend; 2 a command line that cannot run; 3 no result (yet);
4 no result in time; 5 the call was dead-lettered; 6 the call failed for good; 128 plus the number of the signal that
ended the command.
"""


class Parsed(NamedTuple):
    """A valid command line: the function of its command, and the arguments."""

    function: Callable[..., Any]
    bound: inspect.BoundArguments

    def has(self, *parameters: str) -> bool:
        """Whether one of these parameters has a value that counts as true."""
        given = dict(self.bound.arguments)
        for options in self.bound.arguments.values():
            if isinstance(options, CallOptions):
                given |= vars(options)
        return any(given.get(name) for name in parameters)


def make_app() -> App:
    """Create the app with all commands, from their functions' signatures and docstrings. Imports no installed one."""
    app = App(name="brrr", help="\n\n".join([HELP, *unusable_commands()]), version=_version)
    groups = {name: App(name=name, help=summary) for name, summary in GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for command in BUILT_IN:
        words = command.name.split()
        name, parent = words[-1], groups[words[0]] if len(words) > 1 else app
        parent.command(command.function, name=name)
    for installed in installed_commands():
        app.command(App(name=installed.name, help=installed.summary, show=bool(installed.claims)))
    return app


def parse(app: App, tokens: Sequence[str]) -> Parsed:
    """Parse a command line. If it calls an installed command, import that one.

    Raises:
        CommandError: The command line is not valid.
        PluginError: The installed command cannot be used.
    """
    installed = {command.name: command for command in installed_commands()}
    called, _, _ = app.parse_commands([token for token in tokens if token not in app.help_flags])
    for name in installed.keys() & called[:1]:
        function = installed[name].load()
        del app[name]
        app.command(function, name=name)
    try:
        function, bound, unparsed = app.parse_args(list(tokens), print_error=False, exit_on_error=False)
    except CycloptsError as error:
        what = str(error).strip().rstrip(".?")
        remedy = f"See {' '.join(['brrr', *(error.command_chain or ()), '--help'])}."
        raise CommandError(what[:1].lower() + what[1:], remedy=remedy) from error
    bound.arguments.update(dict.fromkeys(unparsed, tuple(tokens)))
    return Parsed(function, bound)


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        tokens: The arguments after `brrr`; by default those of this process.

    Returns:
        The exit code, one of `brrr_cli.errors.ExitCode`.
    """
    tokens = sys.argv[1:] if tokens is None else tokens
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # escapes characters that the terminal's encoding lacks
            reconfigure(errors="backslashreplace")
    app = make_app()
    parsed: Parsed | None = None
    try:
        with exiting(signal.SIGTERM):
            parsed = parse(app, tokens)
            code = _finished(parsed)
        if not parsed.has("handlers", "as_json", "quiet"):  # --handlers would have refused a misspelt option
            hint = suggest_options(app, tokens)
            if hint:
                note(hint)
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
        accepted = parsed is not None and parsed.has("handlers")
        asks = isinstance(error, (CommandError, SignatureError) if accepted else BrrrError)
        report(error, tokens, hint=suggest_options(app, tokens) if asks else "")
        return exit_code_of(error)
    return code


def _finished(parsed: Parsed) -> int:
    outcome = parsed.function(*parsed.bound.args, **parsed.bound.kwargs)
    if inspect.iscoroutine(outcome):
        outcome = asyncio.run(_until_sigterm(outcome))
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


def _version() -> str:
    from importlib.metadata import version

    return f"brrr-core {version('brrr-core')}"
