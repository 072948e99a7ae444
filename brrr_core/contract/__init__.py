"""The contract kit: proves a backend or a codec right, or shows where it is wrong.

Every rule of `docs/contract/` is one function of `brrr_core.contract.rules`. Both ways of use run the same functions.

**Without a test file**: `brrr contract URL`, or in Python

    from brrr_core.contract import run_contract

    report = run_contract("sqlite:///x.db", unreachable_url="sqlite:////nowhere/x.db")
    print(report.text())                   # also .json() and .badge()
    assert report.ok

**Under pytest** (`pip install "brrr-core[contract]"`): one subclass a role, with one fixture. Nothing has to be
configured; the rules run event loops of their own, with pytest-asyncio, with xdist or with neither.

    import pytest
    from brrr_core.contract import BackendContract, CacheContract, CodecContract, QueueContract, StoreContract

    class Sqlite:
        @pytest.fixture
        def url(self, tmp_path):           # a new one for each rule, or always the same: rules use names of their own
            return f"sqlite:///{tmp_path}/x.db"

    class TestQueue(Sqlite, QueueContract): ...
    class TestStore(Sqlite, StoreContract): ...
    class TestCache(Sqlite, CacheContract): ...
    class TestBackend(Sqlite, BackendContract):
        unreachable_url = "sqlite:////nowhere/x.db"
    class TestCodec(CodecContract):
        codec = "json"                     # a name, or a Codec object

What a subclass may set:

- `url`: a fixture that gives the backend's URL. Or `make_backend`: a fixture that gives a function which makes a new
  backend, not open, with its `manifest` set; it may take `lease`, in seconds. Only a URL can be opened by other
  processes, so a backend that declares `shared` needs one.
- `unreachable_url`: a URL of the same scheme behind which nothing answers. A URL whose host is its server needs none:
  the kit takes ports of this machine that are closed, and one that is silent.
- `lease`: the lease in seconds for rules that wait for one to run out, 1 unless set. It is given as the option
  `lease`; a backend without that option is waited for as long as its own lease lasts.
- `grace`: seconds that the backend may need beyond what a rule computes, 5 unless set: also those by which its counts
  (`stats`) may lag behind. Rules poll; a backend that is quick is not waited for.
- `preload`: modules that other processes import before they open the URL, for manifests that are registered there and
  not installed.
- `skips`: rule id to reason. Only rules that need a capability may stand there.
- `expected_failures`: rule id to reason. Such a rule is run, must fail, and shows as an expected failure.

What is not possible, and fails instead: to skip a rule that needs no capability (by `skips`, by a mark, by a
`pytest.skip` in a fixture, by deselecting it), to override a rule, to run none, to misspell an id. Capabilities come
from the manifest that the backend ships; one that is declared is demanded, and an operation that needs one that is not
declared must be refused. With `BRRR_CONTRACT_PARTIAL=1` in the environment, rules may be deselected or skipped while
one works on them; the run then says that it is partial. `BRRR_CONTRACT_SEED` repeats a run with the seed of a failure.
"""

from typing import TYPE_CHECKING

from brrr_core.contract.registry import Role, Rule, all_rules
from brrr_core.contract.report import Outcome, Report, Status
from brrr_core.contract.runner import run_codec_contract, run_contract
from brrr_core.errors import NotInstalledError

if TYPE_CHECKING:
    from brrr_core.contract.classes import BackendContract, CacheContract, CodecContract, QueueContract, StoreContract

__all__ = [
    "BackendContract",
    "CacheContract",
    "CodecContract",
    "Outcome",
    "QueueContract",
    "Report",
    "Role",
    "Rule",
    "Status",
    "StoreContract",
    "all_rules",
    "run_codec_contract",
    "run_contract",
]


def __getattr__(name: str) -> object:
    """The test classes, on first use: they alone need pytest."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from brrr_core.contract import classes
    except ModuleNotFoundError as error:
        if error.name != "pytest":
            raise
        raise NotInstalledError(
            f"{name} needs pytest, which is not installed", remedy='Install it: pip install "brrr-core[contract]".'
        ) from error
    return getattr(classes, name)
