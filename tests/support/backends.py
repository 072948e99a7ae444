"""The backends that a test of workflows runs on: memory, and a SQLite file of its own."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from brrr_core.backend.memory import forget

_names = count()


def memory_url() -> tuple[str, str]:
    """The URL of a space that is new, and its name."""
    name = f"tests-{next(_names)}"
    return f"memory:{name}", name


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """One backend that nobody else uses. Several connections of a test may open it."""
    if request.param == "memory":
        address, name = memory_url()
        yield address
        forget(name)
    else:
        yield f"sqlite:///{tmp_path}/brrr.db?synchronous=off&lease=5s"


@pytest.fixture
def memory() -> Iterator[str]:
    """A space of memory alone, for what does not depend on the backend."""
    address, name = memory_url()
    yield address
    forget(name)
