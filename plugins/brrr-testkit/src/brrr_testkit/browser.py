"""A headless Chromium that a test drives, over the Chrome DevTools Protocol on two pipes.

https://chromedevtools.github.io/devtools-protocol/ describes the commands.
"""

import asyncio
import base64
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from brrr_testkit.processes import missing

__all__ = ["Page", "open_page"]

PROGRAMS: Final = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # with a sandbox it refuses to run as root; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",  # reads commands from descriptor 3, and writes answers to descriptor 4
)
BOUND: Final = 30.0
"""Seconds that a command or a page load may take."""


class Page:
    """A page of the browser.

    Attributes:
        errors: The errors that the page has logged, including violations of its Content-Security-Policy.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.errors: list[str] = []
        self._reader = reader
        self._writer = writer
        self._session: str | None = None
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()

    async def open(self, url: str) -> None:
        """Go to an address, and wait until the page is loaded."""
        self._loaded.clear()
        await self._command("Page.navigate", url=url)
        await self._wait_for_load()

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, or of its promise."""
        answer = await self._command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def wait_until(self, expression: str) -> Any:
        """Wait until a JavaScript expression is true on this page, and return its value."""
        poll = f"const value = ({expression}); if (value) done(value); else setTimeout(poll, 10);"
        return await self.evaluate(f"new Promise((done) => {{ const poll = () => {{ {poll} }}; poll(); }})")

    async def click(self, selector: str, *, loads: bool = False) -> None:
        """Click an element with the mouse. If `loads`, wait until the next page is loaded."""
        element = f"document.querySelector({json.dumps(selector)})"
        await self.evaluate(f"{element}.scrollIntoView({{block: 'center'}})")
        x, y = await self.evaluate(
            f"(() => {{ const r = {element}.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        self._loaded.clear()
        for kind in ("mousePressed", "mouseReleased"):
            await self._command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        if loads:
            await self._wait_for_load()

    async def write(self, selector: str, text: str) -> None:
        """Write a text into a field."""
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        await self._command("Input.insertText", text=text)

    async def resize(self, width: int, height: int) -> None:
        """Set the size of the page in pixels."""
        await self._command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def screenshot(self) -> bytes:
        """Return the visible part of the page as a PNG."""
        answer = await self._command("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])

    async def begin(self) -> None:
        """Attach to a new target."""
        target = await self._command("Target.createTarget", url="about:blank")
        answer = await self._command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = answer["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self._command(f"{domain}.enable")

    async def listen(self) -> None:
        """Process answers and events until the browser ends."""
        while text := await self._reader.readuntil(b"\0"):
            message = json.loads(text[:-1])
            parameters = message.get("params", {})
            match message.get("method"):
                case "Page.loadEventFired":
                    self._loaded.set()
                case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                    self.errors.append(parameters["entry"]["text"])
                case "Runtime.exceptionThrown":
                    self.errors.append(str(parameters["exceptionDetails"]))
                case None:
                    self._answers.pop(message["id"]).set_result(message)
                case _:
                    pass

    async def _wait_for_load(self) -> None:
        async with asyncio.timeout(BOUND):
            await self._loaded.wait()

    async def _command(self, method: str, **parameters: object) -> dict[str, Any]:
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        future = self._answers[self._number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(BOUND):
            answer = await future
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result


@asynccontextmanager
async def open_page() -> AsyncGenerator[Page, None]:
    """Start a browser with an empty profile, and open a page. Skip the test if there is no browser; on CI, fail."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        missing("no Chromium is installed: apt-get install chromium-headless-shell")
    loop = asyncio.get_running_loop()
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            "/bin/bash",  # gives the pipes the numbers that the browser expects
            "-c",
            f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}',
            "browser",
            program,
            *FLAGS,
            f"--user-data-dir={profile}",
            pass_fds=(theirs_in, theirs_out),
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        reader = asyncio.StreamReader(limit=2**26, loop=loop)  # a screenshot is one message
        incoming, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), os.fdopen(ours_in, "rb")
        )
        outgoing, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(ours_out, "wb"))
        page = Page(reader, asyncio.StreamWriter(outgoing, protocol, None, loop))
        listening = asyncio.create_task(page.listen())
        try:
            await page.begin()
            yield page
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            incoming.close()
            outgoing.close()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children too
            await process.wait()
