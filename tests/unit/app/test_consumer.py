"""The arguments of a client, and its errors for wrong ones."""

import pytest

import brrr_core as brrr
from brrr_core.errors import HandlerError


async def test_handlers_without_names_are_refused() -> None:
    @brrr.handler_no_arg
    async def nameless() -> None: ...

    async with brrr.connect("memory:") as connection:
        with pytest.raises(HandlerError, match="dict of names"):
            brrr.AppWorker(handlers=[nameless], codec="json", connection=connection)  # type: ignore[arg-type]
