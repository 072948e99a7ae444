"""The call that a command line names, and its result as JSON."""

from collections.abc import Sequence
from typing import NamedTuple

from brrr_core.cli.arguments import read_arguments
from brrr_core.cli.handlers import load_handlers
from brrr_core.cli.output import write_json
from brrr_core.codec import Codec
from brrr_core.errors import UnknownTaskError
from brrr_core.plugins import load_codec
from brrr_core.wire import Call

__all__ = ["NamedCall", "named_call"]


class NamedCall(NamedTuple):
    """A call, and the codec that reads its value."""

    call: Call
    codec: Codec

    def write_value(self, value: bytes) -> None:
        """Write the decoded result to the standard output, as one line of JSON."""
        write_json(self.codec.decode_return(self.call.task_name, value))


def named_call(
    task: str, tokens: Sequence[str], *, args: str | None, kwargs: str | None, codec: str, handlers: str | None
) -> NamedCall:
    """Create the call of a task with the arguments of a command line.

    Args:
        task: The task's name.
        tokens: The arguments, as `read_arguments` takes them.
        args: The positional arguments as a JSON array.
        kwargs: Keyword arguments as a JSON object.
        codec: The codec's name.
        handlers: `MODULE:HANDLERS` with the task's handler, so that `f(1)` and `f(n=1)` are one call, as in a worker.

    Raises:
        CommandError: The arguments cannot be read.
        UnknownTaskError: The task is not among the handlers.
        SignatureError: The arguments do not fit the handler.
        EncodeError: The codec cannot encode them.
        PluginError: The codec is unknown or broken.
    """
    arguments = read_arguments(tokens, args, kwargs)
    found = load_codec(codec)
    if handlers is None:
        return NamedCall(found.encode_call(task, arguments.args, arguments.kwargs), found)
    known = load_handlers(handlers)
    if task not in known:
        raise UnknownTaskError(
            f"{handlers} has no handler {task!r}", remedy=f"It has {', '.join(sorted(known)) or 'none'}."
        )
    args_, kwargs_ = known[task].arrange(arguments.args, arguments.kwargs, keyword_only=found.keyword_only)
    return NamedCall(found.encode_call(task, args_, kwargs_), found)
