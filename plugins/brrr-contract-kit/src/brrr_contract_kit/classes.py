"""The test classes that a plugin author extends: one for each role, with one test for each rule."""

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from typing import Any, ClassVar, Final

import pytest

from brrr_contract_kit.completeness import ALLOWED, watch
from brrr_contract_kit.lifespan import Lifespan, RunningLifespan
from brrr_contract_kit.preflight import preflight
from brrr_contract_kit.registry import Role, Rule
from brrr_contract_kit.report import Status
from brrr_contract_kit.rules import find, rules_of
from brrr_contract_kit.runner import Judge, new_seed
from brrr_contract_kit.target import GRACE, LEASE, Target
from brrr_contract_kit.testbed.codecs import CodecTarget
from brrr_core.codec import Codec
from brrr_core.errors import BrrrError, ContractError

__all__ = ["BackendContract", "CacheContract", "CodecContract", "Contract", "QueueContract", "StoreContract"]

FINAL: Final = ("test_rule", "pytest_generate_tests", "judge", "rules")

SEED_OF_SESSION: Final = pytest.StashKey[str]()

CHECKED: Final = pytest.StashKey[dict[Hashable, str]]()
"""The checks of the session that ran before a rule, with the error of each; empty if it succeeded."""

LIFESPAN_VALUES: Final = pytest.StashKey[dict[Lifespan, object]]()
"""The values of the lifespans that were started in the session."""


def check_once(request: pytest.FixtureRequest, key: Hashable, check: Callable[[], None]) -> None:
    """Run a check once in the session. If it fails, this test fails too, and other tests that need it are skipped.

    A second check that fails with the same error, such as that of another class on the same server, is skipped too.
    """
    checked = request.config.stash.setdefault(CHECKED, {})
    if key not in checked:
        known = set(checked.values())
        checked[key] = ""
        try:
            check()
        except BrrrError as error:
            checked[key] = str(error)
            if str(error) not in known:
                raise
    if checked[key]:
        request.node.stash[ALLOWED] = True
        pytest.skip(f"not run: {checked[key]}")


class Contract:
    """The common base of the test classes. `brrr_contract_kit` lists the attributes that a subclass may set."""

    __test__ = False
    role: ClassVar[Role]
    skips: ClassVar[Mapping[str, str]] = {}
    expected_failures: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__ == __name__:
            return
        for base in cls.__mro__:
            if base.__module__ != __name__ and (replaced := [name for name in FINAL if name in vars(base)]):
                raise ContractError(
                    f"{base.__qualname__} replaces {', '.join(replaced)} of the contract",
                    remedy="Remove it. Name rules that must fail in `expected_failures`, with a reason.",
                )
        if "__test__" not in vars(cls):
            # Collect it under any name: a class that pytest ignores silently would look like one that passes.
            cls.__test__ = True

    @classmethod
    def rules(cls) -> list[Rule]:
        """Return the rules of the class."""
        return rules_of(cls.role)

    @classmethod
    def judge(cls) -> Judge:
        """Return the judge, which knows the rules that may be skipped or fail.

        Raises:
            ContractError: A rule in `skips` or `expected_failures` belongs to another class.
        """
        for id_ in [*cls.skips, *cls.expected_failures]:
            if find(id_) not in cls.rules():
                owner = find(id_).role.replace("steps", "backend")
                raise ContractError(
                    f"{id_} is not a rule for a {cls.role}", remedy=f"Name it in the class of the {owner}."
                )
        return Judge(cls.skips, cls.expected_failures)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of each rule. Called by pytest."""
        if "rule" in metafunc.fixturenames:
            self.judge()
            every = self.rules()
            metafunc.parametrize("rule", every, ids=[rule.id for rule in every])
            watch(metafunc.config, type(self), every)

    def _run(self, rule: Rule, target: Target | CodecTarget, request: pytest.FixtureRequest) -> None:
        stash = request.config.stash
        seed = stash.setdefault(SEED_OF_SESSION, new_seed())
        outcome = self.judge().run(rule, target, seed)
        if outcome.status is Status.FAILED:
            raise outcome.error or ContractError(outcome.reason, remedy=f"Read {rule.page}, then fix the backend.")
        request.node.stash[ALLOWED] = True
        if outcome.status is Status.EXPECTED:
            pytest.xfail(outcome.reason)
        if outcome.status is not Status.PASSED:
            pytest.skip(f"{outcome.status.value}: {outcome.reason}")


class _BackendRules(Contract):
    """The common base of the classes for backends."""

    setup_first: ClassVar[bool] = False
    unreachable_url: ClassVar[str | None] = None
    lease: ClassVar[float] = LEASE
    grace: ClassVar[float] = GRACE
    preload: ClassVar[tuple[str, ...]] = ()
    server: ClassVar[str | None] = None

    @staticmethod
    def lifespan() -> AbstractAsyncContextManager[Any]:
        """Return a context manager that is open while the rules run; a subclass may override this.

        Its value is the URL to test, or what the fixtures of the author need.
        """
        return nullcontext()

    @pytest.fixture
    def started(self, request: pytest.FixtureRequest) -> Any:
        """Return the value of `lifespan`, which is entered before the first rule; None without a lifespan."""
        lifespan: Lifespan = type(self).lifespan
        if lifespan is _BackendRules.lifespan:
            return None
        started = request.config.stash.setdefault(LIFESPAN_VALUES, {})

        def start() -> None:
            running = RunningLifespan(lifespan)
            started[lifespan] = running.start()
            request.session.addfinalizer(running.stop)

        check_once(request, lifespan, start)
        return started[lifespan]

    @pytest.fixture
    def url(self, started: Any) -> Any:
        """Return the URL to test; a subclass has `lifespan`, or overrides this or `make_backend`."""
        return started

    @pytest.fixture
    def make_backend(self) -> Any:
        """Return a function that makes a backend, if the backend has no URL."""
        return None

    @pytest.fixture
    def relayed(self) -> Any:
        """Return a function of a URL and an address that returns the URL for a server behind that address."""
        return None

    @pytest.fixture
    def readdress(self) -> Any:
        """Return a function that replaces the addresses in an answer, for servers that announce each other."""
        return None

    @pytest.fixture
    def fresh_url(self) -> Any:
        """Return a function that returns the URL of a place where nothing was created yet."""
        return None

    def test_rule(
        self, rule: Rule, started: object, url: object, make_backend: object, request: pytest.FixtureRequest
    ) -> None:
        """Run one rule. Before the first one, open and use the backend."""
        if make_backend is not None and url is started:
            url = None

        def check() -> None:
            preflight(self._target(url, make_backend, request), [self.role], setup=self.setup_first)

        check_once(request, (type(self), url if self.setup_first else None), check)
        self._run(rule, self._target(url, make_backend, request), request)

    def _target(self, url: object, make_backend: object, request: pytest.FixtureRequest) -> Target:
        name = type(self).__qualname__
        if (url is None) == (make_backend is None):
            both = (
                "gives both a url and a make_backend" if url is not None else "gives neither a url nor a make_backend"
            )
            raise ContractError(
                f"{name} {both}", remedy="Define one of the two as a fixture, in the class or a conftest."
            )
        if url is not None:
            try:
                target = Target.at(
                    url,
                    unreachable_url=self.unreachable_url,
                    lease=self.lease,
                    grace=self.grace,
                    preload=tuple(self.preload),
                    server=self.server,
                    relayed=request.getfixturevalue("relayed"),
                    readdress=request.getfixturevalue("readdress"),
                )
            except BrrrError as error:
                # The frames that parse a malformed URL hold parts of it, and pytest shows their local variables.
                raise error.with_traceback(None) from error.__cause__
            target = replace(target, fresh_url=request.getfixturevalue("fresh_url"))
        else:
            target = Target.made_by(
                make_backend, unreachable_url=self.unreachable_url, lease=self.lease, grace=self.grace
            )
        if not target.offers(self.role):
            raise ContractError(
                f"{target.name} offers no {self.role}", remedy="Test the roles that its manifest offers."
            )
        return target


class QueueContract(_BackendRules):
    """The rules of a queue."""

    role = "queue"


class StoreContract(_BackendRules):
    """The rules of a store."""

    role = "store"


class CacheContract(_BackendRules):
    """The rules of a cache."""

    role = "cache"


class BackendContract(_BackendRules):
    """The rules of a backend: opening and closing, URL, secrets, and its steps if it offers them."""

    role = "backend"

    @classmethod
    def rules(cls) -> list[Rule]:
        """Return the rules of a backend and of its steps."""
        return [*rules_of("steps"), *rules_of(cls.role)]


class CodecContract(Contract):
    """The rules of a codec.

    Attributes:
        codec: The codec's name, or a codec object.
    """

    role = "codec"
    codec: ClassVar[str | Codec | None] = None

    def test_rule(self, rule: Rule, request: pytest.FixtureRequest) -> None:
        """Run one rule."""
        self._run(rule, CodecTarget.of(self.codec), request)
