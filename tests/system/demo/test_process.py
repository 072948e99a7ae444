"""The demo as a process: how it starts, stops and restarts, and its errors if it cannot start."""

import asyncio
import signal
import socket
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette

from brrr_core.hooks import BackendFailed, CallFailed
from examples.demo import __main__ as main
from examples.demo.__main__ import BoundedProtocol, FailureLog, Server

from .conftest import Demo, Start


def fib(n: int) -> int:
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_ends_demo_cleanly(demo: Demo, number: int) -> None:
    await demo.http.post("/hello?greetee=John")
    await demo.line("Hello, John!")

    assert await demo.ended(number) == (0, "")
    assert demo.printed[-1] == "Stopped."


async def test_signal_ends_demo_despite_open_connection(demo: Demo) -> None:
    port = demo.http.base_url.port
    assert port is not None
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        assert await demo.ended(signal.SIGINT) == (0, "")
    finally:
        writer.close()


async def test_client_that_sends_slowly_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "REQUEST_TIMEOUT", 0.2)
    config = uvicorn.Config(Starlette(), http=BoundedProtocol, log_config=None, lifespan="off")
    server, listening = Server(config), socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve([listening]))
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    try:
        async with asyncio.timeout(30):
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            while not reader.at_eof() and reader.exception() is None:  # a reset sets an exception
                writer.write(b"X: y\r\n")
                await asyncio.sleep(0.01)  # slow on purpose
    finally:
        writer.close()
        server.should_exit = True
        await serving
        listening.close()


async def test_front_answers_while_its_output_is_not_read(demo: Demo) -> None:
    for number in range(100):
        await demo.http.post("/hello", params={"greetee": f"{number}".zfill(4_000)})

    assert (await demo.http.get("/")).status_code == 200


async def test_second_signal_ends_demo_cleanly(demo: Demo) -> None:
    await demo.http.post("/fib_and_print?n=1000")  # over a connection that stays open

    assert await demo.ended(signal.SIGINT, signal.SIGTERM) == (0, "")
    assert demo.printed[-1] == "Stopped."


async def test_signal_after_stop_does_not_change_exit_status(demo: Demo) -> None:
    demo.process.send_signal(signal.SIGINT)
    await demo.line("^Stopped")

    assert await demo.ended(signal.SIGINT, signal.SIGTERM) == (0, "")


async def test_unfinished_calls_continue_after_restart(start: Start) -> None:
    first = await start()
    await first.http.post("/fib_and_print?n=300")
    assert await first.ended(signal.SIGTERM) == (0, "")

    second = await start()
    # The new worker continues without another POST.
    result = await second.result("/fib_and_print?n=300")

    assert result == fib(300)


async def test_restart_finds_results_and_repeats_no_greeting(start: Start, tmp_path: Path) -> None:
    first = await start()
    await first.http.post("/hello?greetee=John")
    await first.line("Hello, John!")
    await first.result("/hello?greetee=John")
    await first.ended(signal.SIGINT)
    assert names(tmp_path) == ["brrr-demo.db"]  # without the log of a file that was not closed

    second = await start()
    assert await second.result("/hello?greetee=John") == "Hello, John!"
    again = await second.http.post("/hello?greetee=John")
    # The worker takes calls in order. After this line, the other call can no longer print.
    await second.http.post("/hello?greetee=Jane")
    await second.line("Hello, Jane!")
    await second.ended(signal.SIGINT)

    assert (again.status_code, again.json()["status"]) == (202, "done")
    assert [line for line in second.printed if line.startswith("Hello")] == ["Hello, Jane!"]


async def test_demo_prints_usage_and_backend(demo: Demo, tmp_path: Path) -> None:
    text = "\n".join(demo.printed)

    assert f"curl -X POST '{str(demo.http.base_url).rstrip('/')}/hello?greetee=John'" in text
    assert f"sqlite:///brrr-demo.db, seen from {tmp_path}" in text


async def test_port_in_use_is_one_line(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = await start("--port", str(port), ready=False)
        status, errors = await demo.ended()

    assert status == 1
    assert errors == (
        f"Cannot listen on 127.0.0.1:{port}: Address already in use. "
        "Name another port (make demo ARGS='--port 8081') or host.\n"
    )
    assert names(tmp_path) == []


async def test_unopenable_backend_is_one_line(start: Start) -> None:
    demo = await start("--port", "0", "--url", "sqlite:///missing/folder.db", ready=False)
    status, errors = await demo.ended()

    assert status == 1
    assert errors.startswith("[BRRR-BACKEND-01]")
    assert len(errors.splitlines()) == 1


async def test_demo_works_on_any_backend_url(start: Start, tmp_path: Path) -> None:
    demo = await start("--port", "0", "--url", "memory:")
    await demo.http.post("/fib_and_print?n=11")

    assert await demo.result("/fib_and_print?n=11") == 89
    assert names(tmp_path) == []


async def test_environment_names_host_port_and_backend(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRRR_DEMO_HOST", "localhost")
    monkeypatch.setenv("BRRR_DEMO_PORT", "no port")
    monkeypatch.setenv("BRRR_QUEUE", "memory:")
    demo = await start("--port", "0")  # the command line comes first

    assert demo.http.base_url.host == "localhost"
    assert any("It works on memory:" in line for line in demo.printed)

    monkeypatch.setenv("BRRR_DEMO_PORT", str(demo.http.base_url.port))
    another = await start("--url", "memory:", ready=False)
    assert (await another.ended())[0] == 1  # the port of the environment is in use


def test_demo_logs_failures(caplog: pytest.LogCaptureFixture) -> None:
    plugin, error = FailureLog(), ValueError("no")
    plugin.brrr_call_failed(CallFailed("demo", "root", "hash", "fib", 1, error, 1.5, "no"))
    plugin.brrr_call_failed(CallFailed("demo", "root", "hash", "fib", 2, error, None, "no"))
    plugin.brrr_backend_failed(BackendFailed("demo", error, "no"))

    assert caplog.messages == [
        "fib failed (again in 1.5 s): ValueError('no')",
        "fib failed (dead-lettered): ValueError('no')",
        "The backend failed: no",
    ]


@pytest.mark.parametrize("port", ["65536", "-1", "http"])
async def test_invalid_port_is_refused(start: Start, port: str) -> None:
    demo = await start(f"--port={port}", ready=False)
    status, errors = await demo.ended()

    assert status == 2
    assert f"'{port}' is not a port from 0 to 65535" in errors
