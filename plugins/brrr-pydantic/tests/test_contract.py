"""The pydantic codec passes the contract kit."""

from brrr_contract_kit import CodecContract


class TestCodec(CodecContract):
    codec = "pydantic"
