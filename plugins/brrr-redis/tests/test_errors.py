"""Errors of servers and connections: secrets are removed, and chains of causes end."""

import pytest
from redis.exceptions import RedisError, ResponseError

from brrr_core.errors import BackendClosedError, BackendUnavailableError
from brrr_redis.client.errors import NoReplyError, redact, translate


def test_redact_ends_if_causes_form_a_ring():
    first = ResponseError("unknown command 'AUTH', with args beginning with: 'hunter2'")
    second = RedisError("user token-2 has no permission")
    first.__cause__, second.__cause__ = second, first

    redact(first)
    assert "hunter2" not in str(first)
    assert str(second) == "user **** has no permission"


@pytest.mark.parametrize("wrap", [lambda error: error, lambda error: NoReplyError(error, sent=False)])
def test_error_of_brrr_is_raised_unchanged_and_is_not_its_own_cause(wrap):
    ours = BackendClosedError("this backend was closed")

    assert translate(wrap(ours), "localhost") is ours
    assert ours.__cause__ is None


def test_error_of_a_connection_is_the_cause():
    lost = ConnectionResetError("lost")
    ours = translate(NoReplyError(lost, sent=True), "localhost")

    assert type(ours) is BackendUnavailableError
    assert ours.__cause__ is lost
