"""The contract kit: tests whether a backend or a codec obeys the contract, and names the rules that it breaks.

Each rule of `docs/contract/` is one function in `brrr_contract_kit.rules`. You can run the rules in two ways.

**Without a test file**: `brrr contract URL`, or in Python

    from brrr_contract_kit import run_contract

    report = run_contract("sqlite:///x.db", unreachable_url="sqlite:////nowhere/x.db")
    print(report.text())                   # also .json() and .badge()
    assert report.ok

**Under pytest** (`pip install "brrr-contract-kit[pytest]"`): one subclass for each role, with one fixture. You need no
configuration: each rule runs its own event loop, with or without pytest-asyncio and xdist.

    import pytest
    from brrr_contract_kit import BackendContract, CacheContract, CodecContract, QueueContract, StoreContract

    class Sqlite:
        @pytest.fixture
        def url(self, tmp_path):           # new for each rule, or always the same: each rule uses unique names
            return f"sqlite:///{tmp_path}/x.db"

    class TestQueue(Sqlite, QueueContract): ...
    class TestStore(Sqlite, StoreContract): ...
    class TestCache(Sqlite, CacheContract): ...
    class TestBackend(Sqlite, BackendContract):
        unreachable_url = "sqlite:////nowhere/x.db"
    class TestCodec(CodecContract):
        codec = "json"                     # a name, or a Codec object

A subclass may set:

- `url`: a fixture that returns the URL of the backend. Alternatively `make_backend`: a fixture that returns a function,
  which makes a new, closed backend with its `manifest` set, and may take `lease` in seconds. Other processes can only
  open a URL, so a backend that declares `shared` needs one.
- `lifespan`: a function without arguments that returns an async context manager, for example one that starts your
  server. It is open once for all classes of a pytest session, and with xdist once in each worker. Its value is the URL,
  and the value of the fixture `started`, which your own `url` may use.
- `setup_first`: whether to run `setup` of the backend first.
- `unreachable_url`: a URL of the same scheme behind which no server answers. You need none if the host of the URL is
  the server: the kit then uses closed and silent ports of this machine.
- `server`: host and port of the server, if the URL does not show them; several are separated by commas. The kit puts a
  relay in front of each server, which cuts connections, falls silent, and loses answers. It replaces the host of the
  URL, or its option `endpoint`, by the address of the relay.
- `relayed`: a fixture that returns a function of a URL and an address; the function returns the URL for a server behind
  that address. You need it only if a replaced address is not enough, for example if a certificate names the host.
- `readdress`: a fixture for clusters, whose servers send clients the addresses of other servers. It returns a function
  of an answer and of the relays by their servers (`HOST:PORT`), which returns the answer with these addresses replaced.
- `fresh_url`: a fixture that returns a function, which returns the URL of a place where nothing was created yet, for
  example of a new schema. The rules of `setup` need it, unless `url` is new for each rule.
- `lease`: the lease in seconds for rules that wait until a lease expires; by default 1. The kit passes it as the option
  `lease`. If the backend has no such option, these rules wait for its own lease.
- `grace`: extra seconds that the backend may take, and by which its counts (`stats`) may lag; by default 5. Rules poll,
  so a fast backend loses no time.
- `preload`: modules that other processes import before they open the URL, for example to register a manifest.
- `skips`: rule id to reason. It may contain only rules that need a capability.
- `expected_failures`: rule id to reason. Such a rule is run, must fail, and is reported as an expected failure.

Before the first rule of a class, its backend is opened and used once. If that fails, one test fails and the others are
skipped.

The kit fails if you skip a rule that needs no capability (with `skips`, a mark, `pytest.skip` in a fixture, or by
deselecting it), override a rule, run no rule, or misspell an id. Capabilities come from the manifest of the backend:
the kit tests each declared capability, and demands that operations which need another one are refused. With
`BRRR_CONTRACT_PARTIAL=1` in the environment you may deselect or skip rules while you work on them; the run then says
that it is partial. The rules of steps are those of `BackendContract`. They apply if an open backend offers `steps`, and
then cannot be skipped either. `BRRR_CONTRACT_SEED` repeats a run with the seed of a failure.
"""

from typing import TYPE_CHECKING

from brrr_contract_kit.registry import Role, Rule
from brrr_contract_kit.report import Outcome, Report, Status
from brrr_contract_kit.rules import all_rules
from brrr_contract_kit.runner import run_codec_contract, run_contract
from brrr_core.errors import NotInstalledError

if TYPE_CHECKING:
    from brrr_contract_kit.classes import BackendContract, CacheContract, CodecContract, QueueContract, StoreContract

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
    """Import the test classes on first use, because only they need pytest."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from brrr_contract_kit import classes
    except ModuleNotFoundError as error:
        if error.name != "pytest":
            raise
        raise NotInstalledError(
            f"{name} needs pytest, which is not installed",
            remedy='Install it: pip install "brrr-contract-kit[pytest]".',
        ) from error
    return getattr(classes, name)
