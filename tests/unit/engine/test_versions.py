"""The version of a call: its record, and how a worker with another version of the code handles the call."""

import pytest

from brrr_core.engine.calls import NotHere
from brrr_core.engine.policy import TaskPolicy
from brrr_core.engine.versions import LOOK_AGAIN, check_version, version_hash
from brrr_core.errors import VersionError
from brrr_core.wire import Call

CALL = Call("order", b"[1]", "ab" * 32)
POLICY = TaskPolicy(version=4, oldest_version=3, old_topics={1: "v1"})


@pytest.mark.parametrize("begun", [3, 4])
def test_call_of_a_supported_version_runs_here(begun: int) -> None:
    check_version(CALL, "shop", POLICY, begun, lease=60)


@pytest.mark.parametrize(("begun", "topic", "after"), [(1, "v1", 0), (5, None, LOOK_AGAIN)])
def test_call_of_another_version_continues_elsewhere(begun: int, topic: str | None, after: float) -> None:
    with pytest.raises(NotHere) as refused:
        check_version(CALL, "shop", POLICY, begun, lease=60)
    assert (refused.value.topic, refused.value.after) == (topic, after)


def test_call_of_newer_code_waits_no_longer_than_a_lease() -> None:
    with pytest.raises(NotHere) as refused:
        check_version(CALL, "shop", POLICY, 5, lease=1)
    assert refused.value.after == 1


@pytest.mark.parametrize(("begun", "topic"), [(2, "shop"), (1, "v1")])
def test_call_that_no_worker_can_continue_is_refused(begun: int, topic: str) -> None:
    with pytest.raises(VersionError, match=f"version {begun} .* version 4"):
        check_version(CALL, topic, POLICY, begun, lease=60)


def test_each_retry_has_a_version_of_its_own() -> None:
    assert len({version_hash("ab", retries) for retries in range(3)}) == 3
