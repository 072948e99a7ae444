"""The pydantic codec passes the contract kit."""

from brrr_core.contract import CodecContract


class TestCodec(CodecContract):
    codec = "pydantic"
