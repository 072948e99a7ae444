"""The backends that a test of workflows runs on: memory, and a SQLite file of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from brrr_core.backend.memory import space

_names = count()


@contextmanager
def memory_url() -> Iterator[str]:
    """The URL of a space that is new, forgotten afterwards with all that `beside` made of it."""
    name = f"tests-{next(_names)}."
    yield f"memory:{name}"
    for each in [each for each in space._spaces if each.startswith(name)]:
        space.forget(each)


def beside(url: str) -> str:
    """A second backend of the same kind, that shares nothing with the first."""
    return url.replace("brrr.db", "beside.db") if url.startswith("sqlite") else f"{url}beside"


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """One backend that nobody else uses. Several connections of a test may open it."""
    if request.param == "memory":
        with memory_url() as address:
            yield address
    else:
        yield f"sqlite:///{tmp_path}/brrr.db?synchronous=off&lease=5s"


@pytest.fixture
def memory() -> Iterator[str]:
    """A space of memory alone, for what does not depend on the backend."""
    with memory_url() as address:
        yield address
