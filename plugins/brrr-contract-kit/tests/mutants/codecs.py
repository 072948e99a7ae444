"""Codecs that are broken."""

import asyncio
import json
from hashlib import sha256
from typing import Any

from brrr_core.codec import FAILURE_PREFIX, Call, Decoders, JsonCodec
from brrr_core.errors import BrrrError, DecodeError, EncodeError
from mutants.kit import breaks


def hashed(call: Call, of: object) -> Call:
    """Return the call with another hash."""
    return Call(call.task_name, call.payload, sha256(repr(of).encode()).hexdigest())


@breaks("CODEC-HASH-01")
class KeepsTheOrder(JsonCodec):
    """The hash depends on the order of dict keys."""

    def encode_call(self, task_name, args, kwargs):
        call = super().encode_call(task_name, args, kwargs)
        return Call(task_name, json.dumps([args, kwargs], default=sorted).encode(), call.call_hash)


@breaks("CODEC-HASH-01", "CODEC-HASH-05")
class SaltsEachCall(JsonCodec):
    """Each encoding of a call has a different hash."""

    count = 0

    def encode_call(self, task_name, args, kwargs):
        type(self).count += 1
        return hashed(super().encode_call(task_name, args, kwargs), self.count)


@breaks("CODEC-HASH-02")
class HashesByPython(JsonCodec):
    """The hash is Python's own, which differs in each process."""

    def encode_call(self, task_name, args, kwargs):
        call = super().encode_call(task_name, args, kwargs)
        return hashed(call, hash(call.payload))


@breaks("CODEC-HASH-03")
class RawHashes(JsonCodec):
    """The hash contains the unescaped task name."""

    def encode_call(self, task_name, args, kwargs):
        call = super().encode_call(task_name, args, kwargs)
        return Call(task_name, call.payload, f"{task_name}-{call.call_hash}")


@breaks("CODEC-HASH-04")
class ForgetsTheTask(JsonCodec):
    """The hash does not cover the task name."""

    def encode_call(self, task_name, args, kwargs):
        call = super().encode_call(task_name, args, kwargs)
        return hashed(call, call.payload)


@breaks("CODEC-HASH-04")
class JoinsWithoutASeparator(JsonCodec):
    """The hash covers the name and arguments joined without a separator."""

    def encode_call(self, task_name, args, kwargs):
        return hashed(super().encode_call(task_name, args, kwargs), task_name + "".join(map(str, args)))


@breaks("CODEC-HASH-05")
class LowersNames(JsonCodec):
    """The task name of a call is in lower case."""

    def encode_call(self, task_name, args, kwargs):
        call = super().encode_call(task_name, args, kwargs)
        return Call(task_name.lower(), call.payload, call.call_hash)


@breaks("CODEC-ROUND-01", "CODEC-ROUND-02")
class AsciiOnly(JsonCodec):
    """Text that is not ASCII loses its accents and other characters."""

    async def invoke_task(self, call, task):
        payload = json.dumps(json.loads(call.payload)).encode("ascii").replace(b"\\u", b"?")
        result = await super().invoke_task(Call(call.task_name, payload, call.call_hash), task)
        return json.dumps(json.loads(result)).encode("ascii").replace(b"\\u", b"?")


@breaks("CODEC-ROUND-05")
class MarksTextAsFailure(JsonCodec):
    """Some results begin with the prefix of failures."""

    async def invoke_task(self, call, task):
        payload = await super().invoke_task(call, task)
        return FAILURE_PREFIX + payload if "Á" in payload.decode() else payload

    def decode_return(self, task_name, payload, *, returns=Any):
        return super().decode_return(task_name, payload.removeprefix(FAILURE_PREFIX), returns=returns)


@breaks("CODEC-ROUND-02")
class UnsortedResults(JsonCodec):
    """The bytes of a result depend on the order of its dict keys."""

    async def invoke_task(self, call, task):
        kept = []

        async def keep(*args, **kwargs):
            kept.append(await task(*args, **kwargs))

        wrapper: Any = keep
        wrapper.__wrapped__ = task
        await super().invoke_task(call, wrapper)
        return json.dumps(kept[0]).encode()


@breaks("CODEC-ROUND-03", raises=DecodeError)
class DropsKeywords(JsonCodec):
    """Keyword arguments are passed by position, in the order of their names."""

    def encode_call(self, task_name, args, kwargs):
        return super().encode_call(task_name, [*args, *(kwargs[name] for name in sorted(kwargs))], {})


@breaks("CODEC-ROUND-04")
class OneCallAtATime(JsonCodec):
    """The codec keeps the invoked call in an attribute, which a concurrent call overwrites."""

    async def invoke_task(self, call, task):
        self.task = task
        await asyncio.sleep(0)
        return await super().invoke_task(call, self.task)


@breaks("CODEC-ERROR-01")
class EncodesAnything(JsonCodec):
    """A value that cannot be encoded is encoded as its repr."""

    def encode_call(self, task_name, args, kwargs):
        try:
            return super().encode_call(task_name, args, kwargs)
        except EncodeError:
            return super().encode_call(task_name, [repr(args)], {})


@breaks("CODEC-ERROR-01", "CODEC-ERROR-02")
class NamesNoTask(JsonCodec):
    """An error does not name the task of the call."""

    def encode_call(self, task_name, args, kwargs):
        try:
            return super().encode_call(task_name, args, kwargs)
        except EncodeError as error:
            raise EncodeError("this cannot be encoded") from error

    async def invoke_task(self, call, task):
        try:
            return await super().invoke_task(call, task)
        except EncodeError as error:
            raise EncodeError("this cannot be encoded") from error


@breaks("CODEC-ERROR-03")
class ReadsAnything(JsonCodec):
    """Bytes that are not a valid result are decoded to None."""

    def decode_return(self, task_name, payload, *, returns=object):
        try:
            return super().decode_return(task_name, payload)
        except DecodeError:
            return None


@breaks("CODEC-ERROR-04")
class CallsWithRubbish(JsonCodec):
    """Arguments that do not fit are passed to the task unchanged."""

    async def invoke_task(self, call, task):
        return await super().invoke_task(call, self._anything(task))

    @staticmethod
    def _anything(task):
        async def anything(*args, **kwargs):
            return await task(*args, **kwargs)

        return anything


class _Lenient(Decoders):
    def strictly(self, kind):
        return self.to(kind)


@breaks("CODEC-ERROR-04")
class DropsUnknownFields(JsonCodec):
    """A field that the dataclass of the argument does not have is dropped."""

    def __init__(self):
        super().__init__(decoders=_Lenient)


@breaks("CODEC-ERROR-05")
class WrapsErrors(JsonCodec):
    """An exception of the task is wrapped in another error."""

    async def invoke_task(self, call, task):
        try:
            return await super().invoke_task(call, task)
        except ValueError as error:
            raise BrrrError("the task failed") from error


@breaks("CODEC-ERROR-05")
class SwallowsSignals(JsonCodec):
    """A signal from the task to the engine is treated as a failure."""

    async def invoke_task(self, call, task):
        try:
            return await super().invoke_task(call, task)
        except Exception:  # an ordinary error passes, as it should
            raise
        except BaseException as error:
            raise BrrrError("the task failed") from error
