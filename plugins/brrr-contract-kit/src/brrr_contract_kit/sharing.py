"""Find out if two backends on one URL share data, for backends that do not declare `shared`."""

from secrets import token_hex

from brrr_contract_kit.target import Target
from brrr_core.backend import Backend, Key, Swap
from brrr_core.errors import BrrrError

__all__ = ["share"]


async def share(target: Target) -> bool:
    """Whether a second backend on the same URL sees records or messages of the first."""
    token = f"brrr-kit-{token_hex(8)}"
    try:
        async with target.backend() as one, target.backend() as other:
            return await _share_records(one, other, token) or await _share_messages(one, other, token)
    except BrrrError:  # a second backend that cannot be opened shares nothing
        return False


async def _share_records(one: Backend, other: Backend, token: str) -> bool:
    if one.roles.store is None:
        return False
    key = Key("value", token)
    await one.store.write([(key, b"probe")])
    seen = await other.store.read([key])
    await one.store.swap([Swap(key, b"probe", None)])
    return seen == [b"probe"]


async def _share_messages(one: Backend, other: Backend, token: str) -> bool:
    if one.roles.queue is None:
        return False
    await one.queue.put(token, [b"probe"])
    seen = await other.queue.receive(token, limit=1, wait=0)
    await other.queue.ack(seen)
    await one.queue.ack(await one.queue.receive(token, limit=1, wait=0))
    return bool(seen)
