"""What errors mean: whether to try again, and what a user is told."""

import json

import pytest
from nats import errors as nats_errors

from brrr_core.errors import BackendClosedError, BackendError, BackendRefusedError, BackendUnavailableError
from brrr_nats.client.errors import ApiError, DeniedError, Lost, NoResponders, api_error, closed, is_passing, translated

WHERE = "n1.example:4222"


def answer(status, code, text):
    return json.dumps({"error": {"code": status, "err_code": code, "description": text}}).encode()


def test_an_answer_that_is_no_error_is_none():
    assert api_error(b'{"stream":"brrr","seq":1}') is None
    assert api_error(b'{"stream":"brrr","note":"\\"error\\" is only said"}') is None


def test_an_answer_that_is_an_error_keeps_its_codes():
    error = api_error(answer(404, 10059, "stream not found"))

    assert (error.status, error.code, error.missing) == (404, 10059, True)


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (ApiError(10008, 503, "JetStream system temporarily unavailable"), True),
        (ApiError(10167, 429, "too many requests"), True),
        (ApiError(10039, 503, "JetStream not enabled for account"), False),
        (ApiError(10047, 503, "insufficient storage resources available"), False),
        (ApiError(10077, 503, "maximum bytes exceeded"), False),
        (ApiError(10071, 400, "wrong last sequence: 7"), False),
        (ApiError(10059, 404, "stream not found"), False),
        (NoResponders("a"), True),
        (Lost(OSError("x"), sent=False), True),
        (Lost(OSError("x"), sent=True), False),
        (DeniedError("a"), False),
    ],
)
def test_what_was_not_done_and_may_pass_is_tried_again(error, passing):
    assert is_passing(error) is passing


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (Lost(OSError("refused"), sent=False), BackendUnavailableError, "cannot be reached"),
        (Lost(OSError("reset"), sent=True), BackendUnavailableError, "may have been done"),
        (Lost(nats_errors.Error("nats: 'Authorization Violation'"), sent=False), BackendRefusedError, "login"),
        (Lost(nats_errors.NoServersError(), sent=False), BackendUnavailableError, "no server took"),
        (Lost(closed(), sent=True), BackendClosedError, "closed"),
        (Lost(DeniedError("_INBOX.x"), sent=True), BackendError, "README"),
        (DeniedError("brrr.ready.a"), BackendError, r"brrr\.ready\.a"),
        (NoResponders("$JS.API.STREAM.INFO.brrr"), BackendUnavailableError, "JetStream"),
        (NoResponders("brrr.ready.a"), BackendUnavailableError, "setup"),
        (ApiError(10059, 404, "stream not found"), BackendUnavailableError, "setup"),
        (ApiError(10047, 503, "insufficient storage resources available"), BackendUnavailableError, "no room"),
        (ApiError(10077, 503, "maximum bytes exceeded"), BackendUnavailableError, "no room"),
        (ApiError(10039, 503, "JetStream not enabled for account"), BackendError, "Enable"),
        (ApiError(10052, 500, "something new"), BackendError, "something new"),
    ],
)
def test_a_user_is_told_where_and_what_to_do(error, kind, said):
    ours = translated(error, WHERE)

    assert type(ours) is kind
    assert ours.remedy
    with pytest.raises(kind, match=said):
        raise ours
    assert kind is BackendClosedError or WHERE in str(ours)


def test_a_cause_is_chained():
    cause = OSError("refused")

    assert translated(Lost(cause, sent=False), WHERE).__cause__ is cause


def test_the_login_of_a_url_is_masked():
    assert "pw" not in str(translated(Lost(OSError("cannot open nats://me:pw@n1"), sent=False), WHERE))
