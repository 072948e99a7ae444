"""The public names for commands of other distributions: common options, opening, output and exit codes.

docs/how-to/add-a-command.md shows a command that uses them. These names stay when other modules change.
"""

from brrr_cli.arguments import NO_OPTIONS, ArgumentTokens, CallOptions, NamedCall, named_call
from brrr_cli.errors import ExitCode
from brrr_cli.handlers import HandlersOption, load_handlers
from brrr_cli.options import (
    NO_URLS,
    AsJson,
    CodecName,
    Count,
    DurationOption,
    Quiet,
    SizeOption,
    Topic,
    Urls,
    Verbose,
    named_urls,
    open_queue,
    open_queue_and_store,
)
from brrr_cli.output import LiveLines, live_lines, note, shown, write_json, write_line, write_table

__all__ = [
    "NO_OPTIONS",
    "NO_URLS",
    "ArgumentTokens",
    "AsJson",
    "CallOptions",
    "CodecName",
    "Count",
    "DurationOption",
    "ExitCode",
    "HandlersOption",
    "LiveLines",
    "NamedCall",
    "Quiet",
    "SizeOption",
    "Topic",
    "Urls",
    "Verbose",
    "live_lines",
    "load_handlers",
    "named_call",
    "named_urls",
    "note",
    "open_queue",
    "open_queue_and_store",
    "shown",
    "write_json",
    "write_line",
    "write_table",
]
