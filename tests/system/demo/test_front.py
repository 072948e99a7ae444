"""The front without a socket: its calls, and its responses if the backend fails."""

from collections.abc import AsyncIterator

import httpx
import pytest

import brrr_core as brrr
from brrr_core.backend import Backend
from examples.demo.front import make_front
from examples.demo.handlers import HANDLERS, calc, fib


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with brrr.open_backend("memory:") as opened:
        yield opened


@pytest.fixture
async def app(backend: Backend) -> AsyncIterator[brrr.AppConsumer]:
    async with brrr.connect(backend) as connection:
        yield brrr.AppConsumer(codec="json", connection=connection, handlers=HANDLERS)


@pytest.fixture
async def http(app: brrr.AppConsumer) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(make_front(app, HANDLERS, topic="numbers"))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8080") as client:
        yield client


async def test_front_makes_same_call_as_python(http: httpx.AsyncClient, app: brrr.AppConsumer) -> None:
    by_front = (await http.post("/fib?n=11")).json()
    in_python = await app.schedule(fib, topic="numbers")(11)

    assert by_front["arguments"] == {"n": 11}
    assert by_front["call_hash"] == in_python.call_hash


async def test_order_of_query_does_not_matter(http: httpx.AsyncClient, app: brrr.AppConsumer) -> None:
    hashes = {(await http.post(url)).json()["call_hash"] for url in ("/calc?op=fib&n=5", "/calc?n=5&op=fib")}

    assert hashes == {(await app.schedule(calc, topic="numbers")("fib", 5)).call_hash}


async def test_calls_go_to_topic(http: httpx.AsyncClient, backend: Backend) -> None:
    accepted = await http.post("/fib?n=11")

    assert accepted.json()["topic"] == "numbers"
    assert (await backend.queue.stats("numbers")).ready == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_backend_failure_is_service_unavailable(http: httpx.AsyncClient, backend: Backend, method: str) -> None:
    await backend.close()

    answer = await http.request(method, "/fib?n=11")

    assert answer.status_code == 503
    assert answer.json()["code"] == "BRRR-BACKEND-02"
    assert set(answer.json()) == {"code", "what", "remedy"}


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8080", "[::2]:8080", "[::1", "", "127.0.0.1@x"]
)
async def test_request_to_foreign_host_is_refused(http: httpx.AsyncClient, host: str) -> None:
    answer = await http.post("/fib?n=11", headers={"Host": host})

    assert answer.status_code == 403
    assert answer.json()["what"] == f"the request names the host {host!r}"


@pytest.mark.parametrize("origin", ["http://evil.example", "https://localhost:8080", "http://localhost:8081", "null"])
async def test_request_from_foreign_page_is_refused(http: httpx.AsyncClient, backend: Backend, origin: str) -> None:
    answer = await http.post("/fib?n=11", headers={"Origin": origin})

    assert answer.status_code == 403
    assert answer.json()["what"] == f"the request comes from a page of {origin!r}"
    assert (await backend.queue.stats("numbers")).ready == 0


@pytest.mark.parametrize("host", ["localhost:8080", "LOCALHOST", "127.0.0.1:1", "[::1]:8080"])
async def test_request_from_own_page_is_accepted(http: httpx.AsyncClient, host: str) -> None:
    answer = await http.post("/fib?n=11", headers={"Host": host, "Origin": f"http://{host}"})

    assert answer.status_code == 202
