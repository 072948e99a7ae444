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
from brrr_core.hooks import CallFailed, LeaseLost, LoopBlocked
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
        WorkerLog().brrr_lease_lost(LeaseLost("demo", b"li2e1:r1:he", "resize", 70.0, 60.0))
    assert caplog.messages == [
        "the event loop was blocked for 25.0 s, and leases on demo are 60.0 s long: while resize, scale ran",
        "a lease on demo ran out while resize ran: not extended for 70.0 s, and it is 60.0 s long (call h)",
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
    assert [line["event"] for line in lines] == ["worker_started", "call_failed", "worker_stopped"]
    assert (lines[0]["topic"], lines[0]["concurrency"], lines[1]["final"]) == (TOPIC, 64, True)
