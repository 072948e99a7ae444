"""The log of `brrr worker`: a line for each event, and any traceback."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import brrr_core as brrr
from brrr_cli.json_logs import JsonFormatter, with_fields
from brrr_cli.logs import LOG, MaskingFormatter, WorkerLog
from brrr_cli.secrets import Secrets
from brrr_core.errors import BackendUnavailableError
from brrr_core.hooks import (
    BackendFailed,
    BackendLost,
    BackendRestored,
    BackendWarned,
    CallFailed,
    CallStale,
    LeaseLost,
    LoopBlocked,
    TopicUnserved,
    WorkerReported,
)
from brrr_testkit.workloads.fleet import TOPIC, serving


def test_log_formats_any_traceback() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(MaskingFormatter(Secrets([])))
    odd: Any = "abcdef"
    error = SyntaxError("hello", odd)
    handler.emit(logging.LogRecord("brrr", logging.ERROR, "", 0, "failed", (), (SyntaxError, error, None)))
    assert "SyntaxError" in stream.getvalue()


def test_worker_logs_a_lost_lease_and_a_blocked_loop(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="brrr.worker"):
        WorkerLog().brrr_loop_blocked(LoopBlocked("demo", 25.0, 60.0, ("resize", "scale")))
        WorkerLog().brrr_loop_blocked(LoopBlocked("demo", 60.0, 60.0, ("f",), "a.py:41 in f", False))
        WorkerLog().brrr_lease_lost(LeaseLost("demo", b"li2e1:r1:he", "resize", 70.0, 60.0))
    assert caplog.messages == [
        "the event loop was blocked for 25.0 s while resize, scale ran; a lease on demo lasts 60.0 s",
        "the event loop has been blocked for 60.0 s while f ran at a.py:41 in f; a lease on demo lasts 60.0 s",
        "a lease on demo expired while resize ran: it was not extended for 70.0 s, and lasts 60.0 s (call h)",
    ]


@contextmanager
def written_as_json(*urls: str) -> Iterator[list[dict[str, Any]]]:
    """Collect the lines of the worker's log."""
    lines: list[dict[str, Any]] = []
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(Secrets(["worker", "--queue", *urls])))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(logging.NOTSET)
        lines += map(json.loads, stream.getvalue().splitlines())


def test_json_log_has_the_text_and_the_fields_of_the_event() -> None:
    log: Any = with_fields(WorkerLog())
    with written_as_json() as lines:
        log.brrr_loop_blocked(event=LoopBlocked("demo", 25.0, 60.0, ("resize", "scale")))
        log.brrr_lease_lost(event=LeaseLost("demo", b"li2e1:r1:he", "resize", 70.0, 60.0))
        LOG.info("stopping")
    blocked, lost, stopping = lines
    assert blocked["message"].startswith("the event loop was blocked for 25.0 s")
    assert blocked["time"].endswith("+00:00")
    fields = {"level": "warning", "logger": "brrr.worker", "event": "loop_blocked", "task_names": ["resize", "scale"]}
    assert blocked.items() >= {**fields, "topic": "demo", "seconds": 25.0, "lease": 60.0}.items()
    assert lost.items() >= {"event": "lease_lost", "root_id": "r", "call_hash": "h", "level": "error"}.items()
    assert set(stopping) == {"time", "level", "logger", "process", "message"}


def test_json_log_has_no_secrets() -> None:
    secret = 'hun"ter2'
    error = ValueError(f"no answer from {secret}")
    log: Any = with_fields(WorkerLog(tracebacks=True))
    with written_as_json("redis://:hun%22ter2@h") as lines:
        log.brrr_call_failed(event=CallFailed("demo", "r", "h", "resize", 2, error, 1.5, f"ValueError: {secret}"))
    (line,) = lines
    assert secret not in str(line)
    assert line.items() >= {"event": "call_failed", "attempt": 2, "retry_in": 1.5, "error_type": "ValueError"}.items()
    assert "ValueError" in line["traceback"]


async def test_hooks_of_json_log_are_called() -> None:
    @brrr.handler_no_arg
    async def bad() -> None:
        raise brrr.TerminalError("bad")

    with written_as_json() as lines:
        async with serving("memory:", {"bad": bad}, hooks=[with_fields(WorkerLog())]) as fleet:
            with pytest.raises(brrr.CallFailedError):
                await fleet.run(bad)
    assert [line["event"] for line in lines] == [
        "worker_started",
        "call_failed",
        "worker_reported",
        "worker_stopped",
    ]
    assert (lines[0]["topic"], lines[0]["concurrency"], lines[1]["final"]) == (TOPIC, 64, True)


def test_worker_logs_an_outage_twice_and_not_its_retries(caplog: pytest.LogCaptureFixture) -> None:
    log, error = WorkerLog(), BackendUnavailableError("redis is gone")
    with caplog.at_level(logging.INFO, logger="brrr.worker"):
        log.brrr_backend_lost(BackendLost("queue and store", error, "redis is gone"))
        for _ in range(3):
            log.brrr_backend_failed(BackendFailed("demo", error, "redis is gone"))
        log.brrr_backend_restored(BackendRestored("queue and store", 12.0))
        log.brrr_backend_failed(BackendFailed("demo", error, "redis is gone"))
    lost, restored, later = caplog.messages
    assert lost.startswith("the backend of the queue and store does not answer, and is retried: [BRRR-BACKEND-01]")
    assert restored == "the backend of the queue and store answers again, after 12.0 s"
    assert later.startswith("a backend failed while working on demo: [BRRR-BACKEND-01] redis is gone")


def test_worker_logs_its_counts_until_the_first_idle_minute(caplog: pytest.LogCaptureFixture) -> None:
    log = WorkerLog()
    with caplog.at_level(logging.INFO, logger="brrr.worker"):
        for returned in (0, 3, 0, 0, 1):
            log.brrr_worker_reported(WorkerReported("demo", 60.0, returned, 0, 0, 0, 0, 0))
    assert [message.split()[4] for message in caplog.messages] == ["3", "0", "1"]
    assert caplog.messages[0] == (
        "demo, in 60 s: 3 calls returned, 0 deferred, 0 failed, 0 retried, 0 postponed; 0 in flight"
    )


def test_worker_logs_warnings_unserved_topics_and_stale_calls(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="brrr.worker"):
        WorkerLog().brrr_backend_warned(BackendWarned("store", "it evicts"))
        WorkerLog().brrr_topic_unserved(TopicUnserved("dmeo", 2, 120.0))
        WorkerLog().brrr_call_stale(CallStale("demo", "r", "h", "resize", 3700.0))
        WorkerLog().brrr_worker_reported(WorkerReported("demo", 60.0, 1, 0, 0, 0, 0, 0))
    assert caplog.messages == [
        "the backend of the store may lose data: it evicts",
        "nothing receives from the topic dmeo: for 120 s, 2 messages have been ready, and none was leased",
        "resize was put 3700 s ago, and still has no outcome (call h on demo)",
    ]
