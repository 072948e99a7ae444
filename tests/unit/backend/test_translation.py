"""`translating` raises brrr's errors in place of those of a client library, and `causes_of` follows their causes."""

import pytest

from brrr_core.backend import causes_of, translating
from brrr_core.errors import BackendError, BackendUnavailableError, BrrrError


def unavailable(error: Exception) -> BrrrError:
    return BackendUnavailableError(f"the server at h:1 is away ({error})", remedy="Start it.")


def test_error_of_the_library_becomes_the_cause_of_another() -> None:
    theirs = ConnectionError("refused")

    with (
        pytest.raises(BackendUnavailableError, match=r"at h:1 is away \(refused\)") as caught,
        translating((ConnectionError, EOFError), unavailable),
    ):
        raise theirs

    assert caught.value.__cause__ is theirs


@pytest.mark.parametrize("error", [BackendError("ours"), LookupError("a bug"), KeyboardInterrupt()], ids=type)
def test_other_errors_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, translating((OSError, BrrrError), unavailable):
        raise error

    assert caught.value is error


def test_causes_end_in_a_ring() -> None:
    first, second, third = ValueError("1"), ValueError("2"), ValueError("3")
    first.__cause__, second.__context__, third.__cause__ = second, third, first

    assert list(causes_of(first)) == [first, second, third]
