"""The log of `brrr worker`: a line for each event, and any traceback."""

import io
import logging
from typing import Any

import pytest

from brrr_cli.logs import MaskingFormatter, WorkerLog
from brrr_cli.secrets import Secrets
from brrr_core.hooks import LeaseLost, LoopBlocked


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
