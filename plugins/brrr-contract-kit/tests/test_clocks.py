"""The other processes of the kit can have a wrong wall clock."""

import asyncio
import time

import pytest

from brrr_contract_kit.testbed.processes import Agent


async def times_of_agent(shift: int) -> list[float]:
    agent = Agent("memory:", (), None, shift=shift)
    try:
        await agent.start()
        times: list[float] = await agent.do("time")
        return times
    finally:
        await agent.close()


@pytest.mark.parametrize("shift", [0, 3600, -3600])
def test_wall_clock_of_an_agent_is_shifted_in_all_functions(shift: int) -> None:
    times = asyncio.run(times_of_agent(shift))

    assert len(times) == 4
    assert all(abs(each - time.time() - shift) < 300 for each in times), times
