"""Proxy in front of an AWS emulator. A test plans which requests it refuses, and which responses it delays or loses."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

NOWHERE = 1
"""Target port of a proxy without an emulator. The proxy itself responds with an empty object."""

Match = Callable[["Request"], bool]


@dataclass(frozen=True)
class Request:
    """Request of a client: an operation, such as `PutItem`, and its parameters."""

    operation: str
    parameters: dict[str, Any]


@dataclass
class Plan:
    """Fault for the next `times` requests that match."""

    match: Match
    times: int
    refusal: tuple[int, dict[str, Any]] | None = None
    meanwhile: Callable[[], Awaitable[None]] | None = None
    stall: bool = False
    half: bool = False
    late: bool = False
    before: bool = False
    changed: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    failing: dict[str, Any] | None = None


@dataclass
class AwsProxy:
    """Proxy that forwards requests to a port of this machine.

    Attributes:
        requests: Requests that have arrived.
    """

    target: int
    port: int = 0
    requests: list[Request] = field(default_factory=list[Request])
    plans: list[Plan] = field(default_factory=list[Plan])
    _request_arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_for_request(self) -> None:
        """Wait until a request has arrived."""
        await self._request_arrived.wait()

    @property
    def endpoint(self) -> str:
        """URL of the proxy."""
        return f"http://127.0.0.1:{self.port}"

    def asked(self, operation: str) -> int:
        """Return the number of requests of an operation."""
        return sum(request.operation == operation for request in self.requests)

    def lose(self, operation: str, *, times: int = 1, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        """Forward the request, await `meanwhile`, and then cut the connection, so that the response is lost."""
        self.plans.append(Plan(_matches_operation(operation), times, meanwhile=meanwhile or _nothing))

    def delay(self, operation: str, meanwhile: Callable[[], Awaitable[None]], *, times: int = 1) -> None:
        """Forward the request, await `meanwhile`, and then pass the response on."""
        self.plans.append(Plan(_matches_operation(operation), times, meanwhile=meanwhile, late=True))

    def cut(self, operation: str, *, times: int = 1) -> None:
        """Cut the connection without forwarding the request."""
        self.plans.append(Plan(_matches_operation(operation), times, before=True))

    def stall(self, operation: str, *, times: int = 1, half: bool = False) -> None:
        """Forward the request, and pass on nothing, or with `half` only a part of the response."""
        self.plans.append(Plan(_matches_operation(operation), times, stall=True, half=half))

    def refuse(
        self,
        operation: str,
        code: str,
        *,
        status: int = 400,
        message: str = "",
        times: int = 1,
        meanwhile: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Await `meanwhile`, and respond with an error without forwarding the request."""
        body = {
            "__type": f"com.amazonaws.dynamodb.v20120810#{code}",
            "message": message or f"{code}, planned by the test",
        }
        self.plans.append(Plan(_matches_operation(operation), times, refusal=(status, body), meanwhile=meanwhile))

    def change(self, operation: str, changed: Callable[[dict[str, Any]], dict[str, Any]], *, times: int = 1) -> None:
        """Forward a changed request."""
        self.plans.append(Plan(_matches_operation(operation), times, changed=changed))

    def fail_entries(self, operation: str, code: str, *, done: int = 1, sender: bool = False, times: int = 1) -> None:
        """Forward the first entries of a batch, and report the others as failed."""
        failing = {"Code": code, "SenderFault": sender, "Message": f"{code}, planned by the test"}
        self.plans.append(
            Plan(
                _matches_operation(operation),
                times,
                changed=lambda asked: _with_first_entries(asked, done),
                failing=failing,
            )
        )

    def answer(self, operation: str, body: dict[str, Any], *, times: int = 1) -> None:
        """Respond without forwarding the request."""
        self.plans.append(Plan(_matches_operation(operation), times, refusal=(200, body)))

    def _plan_for(self, request: Request) -> Plan | None:
        for plan in self.plans:
            if plan.times and plan.match(request):
                plan.times -= 1
                return plan
        return None

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward the requests of one connection until a side closes it."""
        try:
            while await self._serve_request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _serve_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.decode().split("\r\n")[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(headers.get("x-amz-target", "").rpartition(".")[2], json.loads(body or b"{}"))
        self.requests.append(request)
        self._request_arrived.set()
        plan = self._plan_for(request)
        if plan is not None and plan.before:
            return False
        if plan is not None and plan.refusal is not None:
            if plan.meanwhile is not None:
                await plan.meanwhile()
            status, response = plan.refusal
            writer.write(_http_response(status, json.dumps(response).encode()))
            return True
        if plan is not None and plan.changed is not None:
            changed = json.dumps(plan.changed(request.parameters)).encode()
            head = re.sub(rb"(?i)(content-length: *)\d+", rb"\g<1>%d" % len(changed), head)
            body = changed
        status, answer = (200, b"{}") if self.target == NOWHERE else await self._forward(head, body)
        if plan is not None and plan.failing is not None:
            answer = _with_failed(answer, plan.failing, request.parameters["Entries"])
        if plan is not None and plan.meanwhile is not None:
            await plan.meanwhile()
            if not plan.late:
                return False
        if plan is not None and plan.stall:
            if plan.half:
                writer.write(_http_response(status, answer)[:-1])
            await reader.read()  # until the client closes the connection
            return False
        writer.write(_http_response(status, answer))
        await writer.drain()
        return True

    async def _forward(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        there, back = await asyncio.open_connection("127.0.0.1", self.target, limit=1 << 26)
        try:
            back.write(head[:-2] + b"Connection: close\r\n\r\n" + body)
            head_of_response = await there.readuntil(b"\r\n\r\n")
            lines = head_of_response.decode().lower().split("\r\n")
            if any(line.startswith("transfer-encoding:") and "chunked" in line for line in lines):
                answer = await _read_chunks(there)
            else:
                length = next((int(line[15:]) for line in lines if line.startswith("content-length:")), -1)
                answer = await there.readexactly(length) if length >= 0 else await there.read()
        finally:
            back.close()
        return int(head_of_response.split(b" ", 2)[1]), answer


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    whole = b""
    while size := int(await reader.readline(), 16):
        whole += await reader.readexactly(size)
        await reader.readline()
    return whole


def _http_response(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _with_first_entries(asked: dict[str, Any], number: int) -> dict[str, Any]:
    """Return the request with its first `number` entries."""
    return {**asked, "Entries": asked["Entries"][:number]}


def _with_failed(answer: bytes, failing: dict[str, Any], entries: list[dict[str, Any]]) -> bytes:
    response = json.loads(answer)
    done = {each["Id"] for each in response.get("Successful", ())}
    response["Failed"] = [{**failing, "Id": each["Id"]} for each in entries if each["Id"] not in done]
    return json.dumps(response).encode()


def _matches_operation(operation: str) -> Match:
    return lambda request: operation in ("*", request.operation)


async def _nothing() -> None:
    """Do nothing."""


@asynccontextmanager
async def proxied(endpoint: str | None) -> AsyncGenerator[AwsProxy]:
    """Run a proxy in front of a local endpoint. Skip the test if the endpoint is None, which means an AWS account."""
    if endpoint is None:
        pytest.skip("needs an emulator: a proxy cannot stand in front of an account")
    proxy = AwsProxy(int(endpoint.rpartition(":")[2]))
    served: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.ensure_future(proxy.serve_connection(reader, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 26)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)
