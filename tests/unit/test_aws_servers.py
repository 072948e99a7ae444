"""The emulators that tests share: one server for all who use it, ended by the last, and none left by a failed start."""

import sys
from pathlib import Path

import pytest

from tests.support import aws_servers
from tests.support.aws_servers import Emulator, alive, answering, shared
from tests.support.processes import until


class Tiny(Emulator):
    name = "tiny"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(self.port)]


class Mute(Emulator):
    """Notes its process id, and never answers."""

    name = "mute"

    def command(self) -> list[str]:
        return [sys.executable, "-c", "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"]


def test_the_last_who_leaves_ends_a_shared_server(tmp_path: Path) -> None:
    with shared(Tiny, tmp_path) as first:
        port = int(first.rpartition(":")[2])
        with shared(Tiny, tmp_path) as second:
            assert second == first
        assert answering(port)
    until(lambda: not answering(port), "it ends", bound=30)


@pytest.mark.parametrize("start", ["start", "start_shared"])
def test_a_server_that_does_not_answer_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    monkeypatch.setattr(aws_servers, "STARTING", 2.0)
    server = Mute(tmp_path)

    with pytest.raises(AssertionError, match="mute answers"):
        getattr(server, start)()

    note = tmp_path / "pid"
    assert not note.exists() or until(lambda: not alive(int(note.read_text())), "it is gone", bound=30)
