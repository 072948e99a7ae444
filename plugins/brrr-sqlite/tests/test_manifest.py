"""The manifest, the options and the URLs of the plugin."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from brrr_core.backend import BackendUrl, Duration, Secret, Size
from brrr_core.errors import ForkedError, OptionError, UrlError
from brrr_sqlite.location import database_path
from brrr_sqlite.manifest import MANIFEST
from brrr_sqlite.options import SqliteOptions


def test_entry_point_loads_the_manifest():
    (point,) = entry_points(group="brrr.backends", name="sqlite")
    assert point.load() is MANIFEST
    assert MANIFEST.schemes == ("sqlite",)


def test_manifest_does_not_import_sqlite():
    script = "import brrr_sqlite.manifest, sys; print({'sqlite3'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_manifest_names_the_backend_and_its_options(make):
    module, _, name = MANIFEST.backend.partition(":")
    assert getattr(sys.modules[module], name) is type(make())
    assert MANIFEST.options is SqliteOptions


@pytest.mark.parametrize("mode", ["", "600s", "0400", "0o600", "0066", "0700", "01600"])
def test_mode_is_octal_and_lets_the_owner_read_and_write(mode):
    with pytest.raises(OptionError, match="mode") as caught:
        SqliteOptions(mode=mode)
    assert "0660" in caught.value.remedy


@pytest.mark.parametrize("option", ["lease", "busy_timeout", "poll"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
@pytest.mark.parametrize("kind", [Duration, float])
def test_duration_is_greater_than_0(option, value, kind):
    with pytest.raises(OptionError, match=option):
        SqliteOptions(**{option: kind(value)})


@pytest.mark.parametrize("option", ["page_cache", "wal_size"])
def test_size_is_greater_than_0(option):
    with pytest.raises(OptionError, match=option):
        SqliteOptions(**{option: Size(0)})


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("/brrr.db", Path.cwd() / "brrr.db"),
        ("/a/b.db", Path.cwd() / "a" / "b.db"),
        ("//var/lib/brrr.db", Path("/var/lib/brrr.db")),
        ("/with space?#%.db", Path.cwd() / "with space?#%.db"),
    ],
)
def test_first_slash_of_the_path_belongs_to_the_url(path, file):
    assert database_path(BackendUrl("sqlite", path=path)) == file


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (BackendUrl("sqlite", hosts=(("brrr.db", None),)), "three slashes"),
        (BackendUrl("sqlite", username="me", password=Secret("pass"), path="/brrr.db"), "no login"),
        (BackendUrl("sqlite"), "memory:"),
        (BackendUrl("sqlite", path="/"), "memory:"),
        (BackendUrl("sqlite", path=":memory:"), "memory:"),
        (BackendUrl("sqlite", path="/:memory:"), "memory:"),
        (BackendUrl("sqlite", path="brrr.db"), "three slashes"),
        (BackendUrl("sqlite", path="/folder/"), "folder"),
        (BackendUrl("sqlite", path="/nul\0.db"), "NUL"),
    ],
)
def test_url_without_a_file_is_refused(url, says):
    with pytest.raises(UrlError, match=says) as caught:
        database_path(url)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize("name", ["with space?#%25&.db", "ünï🦜.db"])
async def test_file_may_have_any_name(make, tmp_path, name):
    async with make(tmp_path / name) as backend:
        await backend.queue.put("t", [b"x"])
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_backend_cannot_be_pickled(make):
    import pickle

    with pytest.raises(ForkedError):
        pickle.dumps(make())
