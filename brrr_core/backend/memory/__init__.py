"""The backend `memory:`: queue, store and cache in this process. It is the reference for other backends."""

from brrr_core.backend.memory.backend import MemoryBackend, MemoryOptions
from brrr_core.backend.memory.space import MAX_BYTES, Clock, forget

__all__ = ["MAX_BYTES", "Clock", "MemoryBackend", "MemoryOptions", "forget"]
