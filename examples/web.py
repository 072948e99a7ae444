"""A web service: submit, watch and cancel jobs, and deploy new code while they run. This is its second release.

Set BRRR_QUEUE, for example to sqlite:///web.db, and start the site, `uvicorn examples.web:site`, and some workers,
`brrr worker examples.web --topic jobs`. Then `curl localhost:8000/jobs -d '{"book": "faust"}'` submits a job,
`curl localhost:8000/jobs/faust` shows it, and `curl -X DELETE localhost:8000/jobs/faust` cancels it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import brrr_core as brrr

CHAPTERS = 12


@brrr.handler(version=2, oldest_version=1)
async def translate(app: brrr.ActiveWorker, book: str) -> list[str]:
    """Translate a book, one chapter after the other.

    Release 2 has another style. A job that began with release 1 keeps its style, so its finished chapters stay valid.
    """
    style = "formal" if app.version >= 2 else "plain"
    return [await app.call(chapter)(book, number, style) for number in range(1, CHAPTERS + 1)]


@brrr.handler_no_arg
async def chapter(book: str, number: int, style: brrr.Added[str] = "plain") -> str:
    """Translate a chapter. Release 2 added the style. With its default, a call is the same as in release 1."""
    await asyncio.sleep(0.5)  # stands for the work
    return f"chapter {number} of {book} in a {style} style"


async def submit(request: Request) -> JSONResponse:
    """`POST /jobs`: start a job. The book is its id, so a request that is repeated starts no second job."""
    book = (await request.json())["book"]
    scheduled = await client(request).schedule(translate, topic="jobs")(book)
    answer = {"id": book, "state": scheduled.state}
    return JSONResponse(answer, status_code=202, headers={"Location": f"/jobs/{book}"})


async def show(request: Request) -> JSONResponse:
    """`GET /jobs/ID`: return the state of a job, why it failed, and the result when it is done."""
    book = request.path_params["book"]
    status = await client(request).status(translate)(book)
    answer: dict[str, object] = {"state": status.state, "reason": status.reason}
    if status.state == "done":
        answer["chapters"] = await client(request).read(translate)(book)
    return JSONResponse(answer, status_code=404 if status.state == "unknown" else 200)


async def cancel(request: Request) -> JSONResponse:
    """`DELETE /jobs/ID`: cancel a job, unless it has finished. The chapters that are translated stay."""
    accepted = await client(request).cancel(translate, topic="jobs")(request.path_params["book"])
    return JSONResponse({"accepted": accepted}, status_code=202 if accepted else 409)


def client(request: Request) -> brrr.AppConsumer:
    """Return the client that all requests share."""
    found: brrr.AppConsumer = request.state.client
    return found


@asynccontextmanager
async def lifespan(_site: Starlette) -> AsyncIterator[Mapping[str, object]]:
    """Connect to the backend in BRRR_QUEUE while the site runs."""
    async with brrr.connect() as connection:
        yield {"client": brrr.AppConsumer(codec="json", connection=connection)}


site = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/jobs", submit, methods=["POST"]),
        Route("/jobs/{book}", show, methods=["GET"]),
        Route("/jobs/{book}", cancel, methods=["DELETE"]),
    ],
)
