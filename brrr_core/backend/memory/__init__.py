"""The backend `memory:`: queue, store and cache in this process. It is the reference for other backends."""

from brrr_core.backend.memory.backend import MemoryBackend
from brrr_core.backend.memory.options import MAX_BYTES, MemoryOptions
from brrr_core.backend.memory.space import Clock, forget

__all__ = ["MAX_BYTES", "Clock", "MemoryBackend", "MemoryOptions", "forget"]
