"""`brrr queue`: how many messages topics hold."""

from typing import Annotated

from cyclopts import Parameter

from brrr_core.cli.opening import open_queue
from brrr_core.cli.options import NO_URLS, AsJson, Urls, Verbose
from brrr_core.cli.output import write_json, write_table
from brrr_core.errors import CommandError

__all__ = ["queue"]


async def queue(
    *topics: Annotated[str, Parameter(help="The names of the queues.")],
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show how many messages topics hold.

    Ready to be received, leased to workers, delayed, and dead. The figures are approximate where the backend's own are.
    """
    del verbose  # read from the command line where an error is reported
    if not topics:
        raise CommandError("no topic is named", remedy="Name one or several; a queue cannot list its topics.")
    async with open_queue(urls) as opened:
        found = {topic: await opened.stats(topic) for topic in topics}
    if as_json:
        write_json({"topics": [{"topic": topic, **stats._asdict()} for topic, stats in found.items()]})
    else:
        rows = [(topic, *map(str, stats)) for topic, stats in found.items()]
        write_table(("TOPIC", "READY", "LEASED", "DELAYED", "DEAD"), rows)
