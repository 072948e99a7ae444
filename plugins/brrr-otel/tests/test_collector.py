"""Two worker processes send their spans to a real collector, which writes them to a file. One is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import brrr_core as brrr
from brrr_otel import call_context
from brrr_testkit.servers.collector import CollectedSpan, Collector
from brrr_testkit.waiting import wait_until

BOUND = 60.0

TASKS = """
import asyncio, os, pathlib

import brrr_core as brrr
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

processor = {"batch": BatchSpanProcessor, "simple": SimpleSpanProcessor}[os.environ["PROCESSOR"]]
provider = TracerProvider()
provider.add_span_processor(processor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)


@brrr.handler
async def fib(app: brrr.ActiveWorker, n: int) -> int:
    if n == 3 and "VICTIM" in os.environ:
        pathlib.Path("hangs").touch()
        await asyncio.Event().wait()
    return n if n < 2 else sum(await app.gather(app.call(fib)(n - 1), app.call(fib)(n - 2)))
"""


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    server = Collector(tmp_path).start()
    yield server
    server.stop()


def start(folder: Path, url: str, collector: Collector, **environment: str) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable,
        "-m",
        "brrr_cli",
        "worker",
        "tasks",
        "--topic",
        "demo",
        "--hooks",
        "brrr_otel:OpenTelemetry",
    ]
    own = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **environment}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen([*command, "--queue", url], cwd=folder, env=os.environ | own, stdout=log, stderr=log)


def check_connected(spans: list[CollectedSpan]) -> None:
    """Check that each span is below another one, except for those of the one root."""
    ids = {span.span_id for span in spans}
    assert [span for span in spans if span.parent_id and span.parent_id not in ids] == []
    assert len({span.span_id for span in spans if not span.parent_id}) == 1
    assert len({span.trace_id for span in spans}) == 1


@pytest.mark.parametrize("processor", ["simple", "batch"])
async def test_workflow_whose_worker_is_killed_is_one_connected_trace(
    tmp_path: Path, collector: Collector, processor: str
) -> None:
    """A simple processor sends each span at once, so the killed worker has sent all that ended.

    A batch is lost with its worker. Then the other one reports again all calls of those that did not return.
    """
    (tmp_path / "tasks.py").write_text(TASKS)
    url = f"sqlite:///{tmp_path / 'brrr.db'}?lease=2s"
    victim = start(tmp_path, url, collector, OTEL_SERVICE_NAME="victim", PROCESSOR=processor, VICTIM="1")
    workers = [victim]
    try:
        async with brrr.connect(url) as connection:
            client = brrr.AppConsumer(codec="json", connection=connection)
            scheduled = await client.schedule("fib", topic="demo")(5)
            wait_until((tmp_path / "hangs").exists, "the call hangs", bound=BOUND)
            if processor == "batch":
                victim.kill()
            workers.append(start(tmp_path, url, collector, OTEL_SERVICE_NAME="other", PROCESSOR=processor))
            if processor == "simple":
                log = tmp_path / "log"
                wait_until(lambda: log.read_text().count("working on demo") == 2, "both work", bound=BOUND)
                victim.kill()
            assert await client.result("fib", timeout=BOUND)(5) == 5
        workers[1].send_signal(signal.SIGTERM)
        assert workers[1].wait(BOUND) == 0, (tmp_path / "log").read_text()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    spans = collector.spans()
    check_connected(spans)
    root = call_context(str(scheduled.root_id), scheduled.call_hash)
    assert {int(span.trace_id, 16) for span in spans} == {root.trace_id}
    assert {int(span.span_id, 16) for span in spans if not span.parent_id} == {root.span_id}
    assert root.span_id in {int(span.parent_id, 16) for span in spans if span.name == "run fib"}
    if processor == "simple":
        assert {span.resource["service.name"] for span in spans} == {"victim", "other"}
        assert len({span.span_id for span in spans if span.name == "schedule fib"}) == 6
