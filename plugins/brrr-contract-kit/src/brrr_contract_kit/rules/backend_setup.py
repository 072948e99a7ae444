"""Rules BACKEND-SETUP: `setup` that runs several times concurrently."""

from asyncio import gather
from time import time
from typing import Final

from brrr_contract_kit.registry import rule
from brrr_contract_kit.testbed.checks import broken, described
from brrr_contract_kit.testbed.context import Context, NotApplicableError, raised
from brrr_contract_kit.testbed.operations import use
from brrr_contract_kit.testbed.processes import HEAD_START

TIMES: Final = 4


@rule("BACKEND-SETUP-01")
async def set_up_together(ctx: Context) -> None:
    """`setup` can run several times at the same moment, in one process.

    Why: A program with several parts runs it at its start in each of them. The second one must not fail because the
    first one has just created a table.

    Test: Four new backends run it at the same time. Then one of them is opened and used. If the author gives a function
    `fresh_url`, this happens at a place where nothing has been created yet.
    """
    target = ctx.target.fresh()
    backends = [target.backend() for _ in range(TIMES)]
    for error in await gather(*(raised(backend.setup()) for backend in backends)):
        if error is not None:
            broken(f"one of {TIMES} concurrent setups failed: {described(error)}", cause=error)
    async with backends[-1]:
        await use(ctx, backends[-1])


@rule("BACKEND-SETUP-02", processes=True)
async def set_up_by_processes(ctx: Context) -> None:
    """`setup` can run in several processes at the same moment.

    Why: Deployments start the same program on many machines at the same time, and each runs `brrr setup`.

    Test: Three processes run it at the same moment, and each opens its backend then. As in BACKEND-SETUP-01, this
    happens at a place where nothing was created yet, if the author gives one.
    """
    if ctx.target.url is None or not any(ctx.target.shared(role) for role in ("queue", "store", "cache")):
        raise NotApplicableError("processes share nothing")
    target = ctx.target.fresh()
    agents = await gather(*(ctx.agent(target=target, opened=False) for _ in range(TIMES - 1)))
    at = time() + HEAD_START
    await gather(*(agent.do("set_up", at=at) for agent in agents))
    async with target.backend() as backend:
        await use(ctx, backend)
