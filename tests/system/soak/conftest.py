"""Run the soaks first: each takes most of a minute, and would be the last to end."""

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "tests/system/soak/" not in item.nodeid)
