"""`brrr queue`: count the messages of topics."""

from typing import Annotated

from cyclopts import Parameter

from brrr_cli.options import NO_URLS, AsJson, Urls, Verbose, open_queue
from brrr_cli.output import write_json, write_table
from brrr_core.errors import CommandError

__all__ = ["queue"]


async def queue(
    *topics: Annotated[str, Parameter(help="The names of the queues.")],
    urls: Urls = NO_URLS,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show how many messages topics hold.

    The table shows ready, leased, delayed and dead messages. The figures are approximate if the backend's are.
    """
    del verbose  # `report` reads it from the command line
    if not topics:
        raise CommandError("no topic is named", remedy="Name one or more topics. A queue cannot list them.")
    async with open_queue(urls) as opened:
        found = {topic: await opened.stats(topic) for topic in topics}
    if as_json:
        write_json({"topics": [{"topic": topic, **stats._asdict()} for topic, stats in found.items()]})
    else:
        rows = [(topic, *map(str, stats)) for topic, stats in found.items()]
        write_table(("TOPIC", "READY", "LEASED", "DELAYED", "DEAD"), rows)
