"""The ports of the tests' servers."""

from tests.support.processes import free_port


def test_no_port_is_given_twice() -> None:
    """The servers of a cluster get theirs before the first of them listens."""
    ports = [free_port() for _ in range(300)]

    assert len({*ports}) == len(ports)
