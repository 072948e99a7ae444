"""Errors: whether to try again, and the message for a user."""

import json

import pytest
from nats import errors as nats_errors

from brrr_core.backend import closed_error
from brrr_core.errors import BackendClosedError, BackendError, BackendRefusedError, BackendUnavailableError
from brrr_nats.client.errors import (
    ApiError,
    DeniedError,
    NoReplyError,
    NoRespondersError,
    api_error,
    is_transient,
    to_brrr_error,
)

SERVERS = "n1.example:4222"


def answer(status, code, text):
    return json.dumps({"error": {"code": status, "err_code": code, "description": text}}).encode()


def test_reply_without_an_error_gives_none():
    assert api_error(b'{"stream":"brrr","seq":1}') is None
    assert api_error(b'{"stream":"brrr","note":"\\"error\\" is only said"}') is None


def test_error_reply_keeps_its_codes():
    error = api_error(answer(404, 10059, "stream not found"))

    assert error is not None
    assert (error.status, error.code, error.missing) == (404, 10059, True)


def test_deleted_message_of_a_cluster_is_missing():
    error = api_error(answer(400, 10043, "sequence 37 not found"))

    assert error is not None
    assert error.missing


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (ApiError(10008, 503, "JetStream system temporarily unavailable"), True),
        (ApiError(10167, 429, "too many requests"), True),
        (ApiError(10158, 409, "duplicate message id is in process"), True),
        (ApiError(10039, 503, "JetStream not enabled for account"), False),
        (ApiError(10047, 503, "insufficient storage resources available"), False),
        (ApiError(10077, 503, "maximum bytes exceeded"), False),
        (ApiError(10071, 400, "wrong last sequence: 7"), False),
        (ApiError(10059, 404, "stream not found"), False),
        (NoRespondersError("a"), True),
        (NoReplyError(OSError("x"), sent=False), True),
        (NoReplyError(OSError("x"), sent=True), False),
        (DeniedError("a"), False),
    ],
)
def test_only_undone_requests_with_a_passing_cause_are_transient(error, passing):
    assert is_transient(error) is passing


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (NoReplyError(OSError("refused"), sent=False), BackendUnavailableError, "cannot be reached"),
        (NoReplyError(OSError("reset"), sent=True), BackendUnavailableError, "may have taken effect"),
        (NoReplyError(nats_errors.Error("nats: 'Authorization Violation'"), sent=False), BackendRefusedError, "login"),
        (NoReplyError(nats_errors.NoServersError(), sent=False), BackendUnavailableError, "no server took"),
        (NoReplyError(closed_error(), sent=True), BackendClosedError, "closed"),
        (NoReplyError(DeniedError("_INBOX.x"), sent=True), BackendError, "README"),
        (DeniedError("brrr.ready.a"), BackendError, r"brrr\.ready\.a"),
        (NoRespondersError("$JS.API.STREAM.INFO.brrr"), BackendUnavailableError, "JetStream"),
        (NoRespondersError("brrr.ready.a"), BackendUnavailableError, "setup"),
        (ApiError(10059, 404, "stream not found"), BackendUnavailableError, "setup"),
        (ApiError(10047, 503, "insufficient storage resources available"), BackendUnavailableError, "no room"),
        (ApiError(10077, 503, "maximum bytes exceeded"), BackendUnavailableError, "no room"),
        (ApiError(10039, 503, "JetStream not enabled for account"), BackendError, "Enable"),
        (ApiError(10052, 500, "something new"), BackendError, "something new"),
    ],
)
def test_error_names_the_servers_and_a_remedy(error, kind, said):
    ours = to_brrr_error(error, SERVERS)

    assert type(ours) is kind
    assert ours.remedy
    with pytest.raises(kind, match=said):
        raise ours
    assert kind is BackendClosedError or SERVERS in str(ours)


def test_cause_is_chained():
    cause = OSError("refused")

    assert to_brrr_error(NoReplyError(cause, sent=False), SERVERS).__cause__ is cause


def test_login_of_a_url_is_masked():
    assert "pw" not in str(to_brrr_error(NoReplyError(OSError("cannot open nats://me:pw@n1"), sent=False), SERVERS))
