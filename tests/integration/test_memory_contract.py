"""The memory backend and the codecs of brrr-core obey the contract."""

from itertools import count

import pytest

from brrr_contract_kit import BackendContract, CacheContract, CodecContract, QueueContract, StoreContract
from brrr_core.backend.memory import forget

_names = count()


class Memory:
    @pytest.fixture
    def url(self):
        """Return a named space, which backends of this process share, so that rules for two backends apply."""
        name = f"contract-{next(_names)}"
        yield f"memory:{name}"
        forget(name)


class TestQueue(Memory, QueueContract):
    pass


class TestStore(Memory, StoreContract):
    pass


class TestCache(Memory, CacheContract):
    pass


class TestBackend(Memory, BackendContract):
    pass


class TestPrivate(BackendContract):
    """`memory:` without a name: backends share nothing."""

    @pytest.fixture
    def url(self):
        return "memory:"


class TestJson(CodecContract):
    codec = "json"


class TestJsonObject(CodecContract):
    codec = "json-object"


class TestMsgpack(CodecContract):
    codec = "msgpack"
