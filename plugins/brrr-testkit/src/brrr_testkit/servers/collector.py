"""A real OpenTelemetry collector for tests: Rotel, from the package index. It writes the spans that it gets to a file.

The collector of the OpenTelemetry project is not on the package index. Both speak the same protocol.
"""

import platform
import re
import shutil
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple, Self

import pytest

from brrr_testkit.processes import ServerProcess, free_port, missing
from brrr_testkit.waiting import wait_until

__all__ = ["CollectedSpan", "Collector"]

_FIELD: Final = re.compile(r"\s+(Trace ID|Parent ID|ID|Name|Status code)\s*: ?(.*)")
_ATTRIBUTE: Final = re.compile(r"\s+-> ([\w.]+): \w+\((.*)\)")


class CollectedSpan(NamedTuple):
    """A span that arrived. `parent_id` is empty for a root. `resource` has the attributes of the process."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    status: str
    attributes: dict[str, str]
    resource: dict[str, str]


class Collector(ServerProcess):
    """One collector process.

    Args:
        folder: The folder for its file.
    """

    def __init__(self, folder: Path) -> None:
        self.program = _program()
        self.folder = folder
        self.port = free_port()
        self._file = folder / "collected"

    @property
    def url(self) -> str:
        """The endpoint for OTLP over HTTP: `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start the collector, and wait until it listens."""
        own = [f"--otlp-http-endpoint=127.0.0.1:{self.port}", f"--otlp-grpc-endpoint=127.0.0.1:{free_port()}"]
        shown = ["--exporter=blackhole", "--debug-log=traces", "--debug-log-verbosity=detailed"]
        with self._file.open("wb") as file:
            command = [str(self.program), "start", *own, *shown]
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=file, stderr=file)
        wait_until(self._listens, f"the collector listens on port {self.port}", bound=40.0)
        return self

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def spans(self) -> list[CollectedSpan]:
        """Return the spans that arrived, in order."""
        found: list[CollectedSpan] = []
        resource: dict[str, str] = {}
        for block in self._file.read_text().split("ResourceSpans #")[1:]:
            head, *spans = re.split(r"^Span #\d+$", block, flags=re.MULTILINE)
            resource = dict(_ATTRIBUTE.findall(head))
            for span in spans:
                fields = dict(_FIELD.findall(span))
                ids = fields["Trace ID"], fields["ID"], fields["Parent ID"]
                attributes = dict(_ATTRIBUTE.findall(span))
                found.append(CollectedSpan(*ids, fields["Name"], fields["Status code"], attributes, resource))
        return found


def _program() -> Path:
    """Return the path of the collector, from PATH or from the package rotel."""
    if found := shutil.which("rotel"):
        return Path(found)
    try:
        files = metadata.files("rotel") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "rotel-agent" and (program := Path(str(file.locate()))).is_file():
            return program
    if sys.version_info >= (3, 14) or sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("rotel has no wheel for this Python or this machine", allow_module_level=True)
    missing("rotel is neither on PATH nor in an installed package: pip install 'brrr-testkit[otel]'")
