"""The synchronous client in programs: behind a threaded WSGI server, in forked processes, and at their end."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

import brrr_core as brrr

BEGIN = """
import asyncio, os, sys, threading

import brrr_core as brrr
from brrr_core.errors import BackendClosedError

def child(function):
    '''Run a function in a forked process, which ends as a server's worker does. Return its exit code.'''
    process = os.fork()
    if not process:
        function()
        sys.exit()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

def schedule(number):
    return client.schedule("double", topic="t")(number).root_id is not None

def say(*words):
    print(*words, flush=True)

client = brrr.sync.connect(sys.argv[1])
"""

UNUSED = """
def use(number):
    say(schedule(number))

say(child(lambda: use(1)), child(lambda: use(2)), schedule(3))
"""

USED = """
def use():
    try:
        client.read("double")(1)
    except brrr.BrrrError as error:
        say(error)
    client.close()

say(schedule(1))
say(child(use), schedule(2))
"""

WAITS = """
waiting = threading.Event()

async def wait(app):
    waiting.set()
    await asyncio.Event().wait()

def wait_until_closed():
    try:
        client.wait(wait)
    except BackendClosedError:
        say("closed")

thread = threading.Thread(target=wait_until_closed, daemon=True)
thread.start()
waiting.wait()
"""

FORK_BESIDE_A_WAIT = """
say(child(lambda: os._exit(7)), child(lambda: None), schedule(2))
client.close()
thread.join()
"""

NEVER_CLOSED = """
say(schedule(1))
"""


def said(url: str, text: str) -> list[str]:
    """Run a program, and return its lines. It must end by itself and without an error."""
    # Python 3.12 warns of a fork beside threads.
    command = [sys.executable, "-Werror", "-Wignore:This process:DeprecationWarning", "-c", BEGIN + text, url]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.splitlines()


def test_client_that_is_unused_before_a_fork_opens_in_each_process(url: str) -> None:
    assert said(url, UNUSED) == ["True", "True", "0 0 True"]


def test_client_that_was_used_before_a_fork_is_refused_in_the_child(url: str) -> None:
    first, refusal, last = said(url, USED)

    assert refusal.startswith("[BRRR-BACKEND-07] this client was used in process ")
    assert refusal.endswith("Make a client in each process, or use the client only after the fork.")
    assert (first, last) == ("True", "0 True")


def test_fork_beside_a_wait_ends_neither_process(url: str) -> None:
    assert said(url, WAITS + FORK_BESIDE_A_WAIT) == ["7 0 True", "closed"]


def test_program_ends_without_closing_its_client(url: str) -> None:
    assert said(url, NEVER_CLOSED) == ["True"]
    assert said(url, WAITS) in ([], ["closed"])


class ThreadedServer(ThreadingMixIn, WSGIServer):
    """A WSGI server with a thread for each request, as development servers and gunicorn's threads have them."""

    daemon_threads = True
    request_queue_size = 64


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that it overrides
        pass


@brrr.handler_no_arg
async def double(number: int) -> int:
    return 2 * number


@contextmanager
def served(application: Any) -> Iterator[int]:
    with make_server("127.0.0.1", 0, application, ThreadedServer, Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


WORKER = """
import asyncio, sys
import brrr_core as brrr

@brrr.handler_no_arg
async def double(number: int) -> int:
    return 2 * number

async def main():
    async with brrr.serve(sys.argv[1]) as conn:
        await conn.loop("t", brrr.AppWorker(handlers=dict(double=double), codec="json", connection=conn).handle)

asyncio.run(main())
"""


@pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)
def test_threads_of_a_wsgi_server_share_a_client(url: str) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        number = int(parse_qs(environ["QUERY_STRING"])["number"][0])
        if environ["REQUEST_METHOD"] == "POST":
            client.schedule(double, topic="t")(number)
        try:
            result = client.result(double, timeout=30)(number)
        except brrr.BrrrError as error:
            start_response("500 Failed", [])
            return [str(error).encode()]
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(result).encode()]

    def post(number: int) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", f"/?number={number}")
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, body

    with (
        subprocess.Popen([sys.executable, "-c", WORKER, url]) as worker,
        brrr.sync.connect(url) as client,
        served(application) as port,
        ThreadPoolExecutor(20) as browsers,
    ):
        try:
            assert list(browsers.map(post, range(100))) == [(200, b"%d" % (2 * n)) for n in range(100)]
        finally:
            worker.terminate()
