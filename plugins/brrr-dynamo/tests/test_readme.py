"""README.md lists the options, items and permissions of the code."""

import re
from dataclasses import fields
from pathlib import Path

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_dynamo import layout
from brrr_dynamo.options import DynamoOptions
from brrr_testkit.faults.aws import proxied
from brrr_testkit.readmes import options_of
from brrr_testkit.servers.aws import dynamo_url

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_readme_lists_every_option():
    assert options_of(README) == {option.name for option in fields(DynamoOptions)}


def test_readme_lists_the_items_of_the_layout():
    rows = [line for line in (layout.__doc__ or "").splitlines() if line.startswith("| ")]

    assert len(rows) == 7
    assert all(row in README for row in rows)


async def test_readme_lists_exactly_the_permissions_that_are_used(dynamo_endpoint, aws_prefix, prefix):
    policies = re.findall(r'"dynamodb:(\w+)"', README)
    setup = re.findall(r"`dynamodb:(\w+)`", README)
    large, key = bytes(500_000), Key("value", prefix)
    async with proxied(dynamo_endpoint) as proxy:
        url = dynamo_url(f"{aws_prefix}{prefix}readme", proxy.endpoint)
        await brrr.open_backend(url).setup()
        assert {request.operation for request in proxy.requests} <= {*policies, *setup}
        proxy.requests.clear()
        async with brrr.open_backend(url) as backend:
            await backend.store.write([(key, b"x"), (Key("call", prefix), large)])
            await backend.store.swap([Swap(key, b"x", large), Swap(key, large, None), Swap(key, None, None)])
            await backend.store.read([key])
            await backend.cache.increment({prefix: 1})
    assert {request.operation for request in proxy.requests} == set(policies)
