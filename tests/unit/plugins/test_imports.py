"""Importing the package scans nothing, and listing plugins imports no client library."""

import json
import subprocess
import sys

from brrr_testkit.processes import unmeasured

CLIENTS = ["redis", "boto3", "botocore", "aiobotocore", "nats", "sqlite3"]
LATER = ["msgspec", "pluggy", "importlib.metadata"]


def loaded_after(code, names):
    """Return those of these modules that a fresh interpreter has loaded after it ran the code."""
    report = f"import json, sys; print(json.dumps([name for name in {names!r} if name in sys.modules]))"
    command = [sys.executable, "-c", f"{code}\n{report}"]
    ran = subprocess.run(command, env=unmeasured(), capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def test_importing_plugins_package_scans_nothing_and_imports_no_library():
    bare = loaded_after("import brrr_core", LATER)  # modules that the parent package needs
    code = "import brrr_core.plugins as p\nassert p.REGISTRY._metadata is None"
    assert loaded_after(code, [*LATER, "brrr_core.plugins.builtin"]) == bare


def test_listing_plugins_and_url_errors_import_no_client_library_and_no_backend():
    code = """if True:
        import brrr_core.plugins as p
        from brrr_core.errors import BrrrError
        from brrr_core.plugins.scanning import KNOWN_BACKENDS
        KNOWN_BACKENDS["later"] = "brrr-later"
        assert {"memory", "sqlite"} <= {row.name for row in p.list_backends() if row.error is None}
        assert p.list_codecs()
        for url in ["later://h", "qqq:", "sqlite:///x?nonsense=1", "sqlite:///x?nonsense", "x"]:
            try:
                p.open_backend(url)
            except BrrrError:
                continue
            raise SystemExit(url)
    """
    assert loaded_after(code, [*CLIENTS, "brrr_core.codec.json", "brrr_sqlite.backend"]) == []
