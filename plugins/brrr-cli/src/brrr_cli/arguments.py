"""The call that a command line names. The arguments of its task are JSON, or else plain text."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, NamedTuple, NoReturn, TypeAlias, cast

from cyclopts import Parameter

from brrr_cli.handlers import HandlersOption, load_handlers
from brrr_cli.options import CodecName
from brrr_cli.output import write_json
from brrr_core import load_codec
from brrr_core.app.catalogue import arranging, encode_value
from brrr_core.codec import Codec
from brrr_core.engine.failures import check_value, raise_if_failed
from brrr_core.errors import CommandError, UnknownTaskError
from brrr_core.wire import Call

__all__ = [
    "NO_OPTIONS",
    "ArgumentTokens",
    "Arguments",
    "CallOptions",
    "NamedCall",
    "named_call",
    "read_arguments",
    "read_value",
]

KEYWORD: Final = re.compile(r"--([^\W\d][\w-]*)(?:=(.*))?", re.DOTALL)

ArgumentTokens: TypeAlias = Annotated[
    str,
    Parameter(
        allow_leading_hyphen=True,
        help="The task's arguments: each is JSON, or else plain text. Write keyword arguments as --KEY VALUE. "
        "Everything after -- belongs to the task, even if it looks like an option of this command.",
    ),
]
"""The arguments of a task: `*arguments: ArgumentTokens`."""
JsonArguments: TypeAlias = Annotated[
    str | None, Parameter(name="--args", help="All positional arguments as one JSON array.")
]
JsonKeywords: TypeAlias = Annotated[
    str | None, Parameter(name="--kwargs", help="Keyword arguments as one JSON object.")
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CallOptions:
    """The options that identify a call, in addition to its task and the direct arguments.

    Attributes:
        args: The positional arguments as a JSON array.
        kwargs: Keyword arguments as a JSON object.
        handlers: `MODULE:HANDLERS` with the task's handler, so that `f(1)` and `f(n=1)` are one call, as in a worker.
        codec: The codec's name.
    """

    args: JsonArguments = None
    kwargs: JsonKeywords = None
    handlers: HandlersOption = None
    codec: CodecName = "json"


NO_OPTIONS: Final = CallOptions()
"""No option on the command line: the default of a parameter of type `CallOptions`."""


class Arguments(NamedTuple):
    """The arguments of a call."""

    args: list[object]
    kwargs: dict[str, object]


class NamedCall(NamedTuple):
    """A call, and the codec that reads its value."""

    call: Call
    codec: Codec

    async def encode_value(self, text: str) -> bytes:
        """Return a result from the command line, which is JSON or else plain text, encoded by the codec.

        Raises:
            EncodeError: It cannot be encoded, or readers would take it for a failure.
        """
        encoded = await encode_value(self.codec, self.call.task_name, read_value(text))
        check_value(self.call.task_name, encoded)
        return encoded

    def write_value(self, value: bytes) -> None:
        """Write the decoded result to the standard output, as one line of JSON.

        Raises:
            CallFailedError: The call failed for good.
        """
        raise_if_failed(self.call, value, lambda details: self.codec.decode_return(self.call.task_name, details))
        write_json(self.codec.decode_return(self.call.task_name, value))


def named_call(task: str, tokens: Sequence[str], options: CallOptions) -> NamedCall:
    """Create the call of a task with the arguments of a command line.

    Args:
        task: The task's name.
        tokens: The arguments, as `read_arguments` takes them.
        options: The options that identify the call.

    Raises:
        CommandError: The arguments cannot be read.
        UnknownTaskError: The task is not among the handlers.
        SignatureError: The arguments do not fit the handler.
        EncodeError: The codec cannot encode them.
        PluginError: The codec is unknown or broken.
    """
    arguments = read_arguments(tokens, options.args, options.kwargs)
    found = load_codec(options.codec)
    if options.handlers is None:
        return NamedCall(found.encode_call(task, arguments.args, arguments.kwargs), found)
    known = load_handlers(options.handlers)
    if task not in known:
        raise UnknownTaskError(
            f"{options.handlers} has no handler {task!r}", remedy=f"It has {', '.join(sorted(known)) or 'none'}."
        )
    args_, kwargs_ = arranging(known[task], found)(arguments.args, arguments.kwargs)
    return NamedCall(found.encode_call(task, args_, kwargs_), found)


def read_arguments(tokens: Sequence[str], args: str | None = None, kwargs: str | None = None) -> Arguments:
    """Read the arguments of a call.

    Args:
        tokens: Positional values, and keywords as `--key value` or `--key=value`.
        args: A JSON array that replaces positional values.
        kwargs: A JSON object, in addition to keywords.

    Raises:
        CommandError: A keyword has no value or appears twice, a token looks like an option, or the JSON is invalid.
    """
    found = Arguments([], dict(_json_of("--kwargs", kwargs, dict) if kwargs is not None else {}))
    rest = iter(tokens)
    for token in rest:
        match = KEYWORD.fullmatch(token)
        if match is None:
            found.args.append(_positional(token))
            continue
        name, text = match[1].replace("-", "_"), match[2]
        if text is None:
            text = next(rest, None)
        if text is None:
            _refuse(
                f"the argument --{match[1]} has no value", "Write --key value. For a plain text, write '\"--key\"'."
            )
        if name in found.kwargs:
            _refuse(f"the argument {name!r} is given twice", "Give it once.")
        found.kwargs[name] = read_value(text)
    if args is not None:
        if found.args:
            _refuse("positional arguments are given both directly and by --args", "Use only one of the two ways.")
        found.args.extend(_json_of("--args", args, list))
    return found


def _positional(text: str) -> object:
    value = read_value(text)
    if value == text and text.startswith("-") and len(text) > 1:
        _refuse(
            f"{text!r} is neither an option nor JSON", f"To pass it as an argument, write it as JSON: '\"{text}\"'."
        )
    return value


def read_value(text: str) -> object:
    """Return a value of a command line, which is JSON or else plain text."""
    try:
        value: object = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _json_of(option: str, text: str, kind: type[Any]) -> Any:
    value = read_value(text)
    if not isinstance(value, kind):
        noun, example = ("array", "[1, 2]") if kind is list else ("object", '{"n": 11}')
        _refuse(f"{option} is not a JSON {noun}", f"Write it like {option} '{example}'.")
    return cast("Any", value)


def _refuse(what: str, remedy: str) -> NoReturn:
    raise CommandError(what, remedy=remedy)
