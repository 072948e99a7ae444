"""Runs of pytest in a process of their own, with the classes of the kit."""

import subprocess
import sys
from pathlib import Path

HEAD = """
import pytest
from brrr_contract_kit import BackendContract, CacheContract, CodecContract, QueueContract, StoreContract

class Memory:
    @pytest.fixture
    def url(self):
        return "memory:honest"
"""

LEFT_OUT = [f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "valkey")]
"""Plugins that the kit does not need, and that take longer to import than a run takes."""


class Run:
    """A separate pytest run, in a folder outside the configuration of this checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, code: str, *arguments: str, partial: bool = False, path: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        (self.folder / "test_kit.py").write_text(HEAD + code)
        command = [sys.executable, "-m", "pytest", "-q", "-ra", *LEFT_OUT, *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=({"BRRR_CONTRACT_PARTIAL": "1"} if partial else {}) | ({"PYTHONPATH": str(path)} if path else {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
