"""README.md lists the options and permissions of the code."""

import re
from dataclasses import fields
from pathlib import Path

import brrr_core as brrr
from brrr_sqs.options import SqsOptions
from brrr_testkit.readmes import options_of

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_readme_lists_every_option():
    assert options_of(README) == {option.name for option in fields(SqsOptions)}


async def test_readme_lists_exactly_the_permissions_that_are_used(proxy, proxied_url, topic):
    policy = set(re.findall(r'"sqs:(\w+)"', README))
    await brrr.open_backend(proxied_url(topics=topic)).setup()
    async with brrr.open_backend(proxied_url()) as backend:
        queue = backend.queue
        await queue.put(topic, [b"x", b"y"])
        one, *_ = held = await queue.receive(topic, limit=2, wait=5)
        await queue.extend(held)
        await queue.bury(one, "x")
        await queue.release(held[1:])
        await queue.stats(topic)
        assert await queue.redrive(topic, limit=1) == 1

    used = {request.operation.removesuffix("Batch") for request in proxy.requests}
    assert used == policy
