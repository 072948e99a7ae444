"""`brrr setup`: create what backends need, and check that they open."""

from typing import Annotated

from cyclopts import Parameter

from brrr_core.backend.lifecycle import retry_while_unavailable
from brrr_core.cli.opening import named_urls
from brrr_core.cli.options import NO_URLS, AsJson, Verbose
from brrr_core.cli.output import write_json, write_line
from brrr_core.errors import UrlError
from brrr_core.plugins import backend_manifest, mask_url, open_backend, parse_url

__all__ = ["setup"]


async def setup(
    *urls: Annotated[str, Parameter(help="Backend URLs; by default those of BRRR_QUEUE, BRRR_STORE and BRRR_CACHE.")],
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Create what backends need, and check that they open.

    The command creates tables, streams and folders. Existing ones stay as they are.
    """
    del verbose  # `report` reads it from the command line
    named = list(dict.fromkeys(urls)) or named_urls(NO_URLS)
    if not named:
        raise UrlError("no backend is named", remedy="Pass URLs like sqlite:///brrr.db, or set BRRR_QUEUE.")
    for url in named:
        backend = open_backend(url)
        done = await retry_while_unavailable(backend.setup, backend.retry_for)
        async with backend:
            pass
        shown = mask_url(url, backend_manifest(parse_url(url).url.scheme).options)
        if as_json:
            write_json({"url": shown, "done": done})
            continue
        for line in done:
            write_line(line)
        write_line(f"{shown} is ready")
