"""Stores whose notifier is broken."""

from brrr_core.backend import Notifier
from mutants.kit import StepsOver, StoreOver, breaks


class _NotifierOver(Notifier):
    """A notifier that passes everything on to another."""

    def __init__(self, inner):
        self.inner = inner

    async def watch(self, call_hash, wake):
        return await self.inner.watch(call_hash, wake)

    def unwatch(self, call_hash, wake):
        self.inner.unwatch(call_hash, wake)


@breaks("STORE-WATCH-01", "STORE-WATCH-02", "STORE-WATCH-04", "STORE-WATCH-05")
class WakesNobody(StoreOver):
    """A watch is in force, but never wakes."""

    def __init__(self, inner):
        super().__init__(inner)

        class Silent(_NotifierOver):
            async def watch(self, call_hash, wake):
                return await self.inner.watch(call_hash, lambda: None)

        self.notifier = Silent(inner.notifier)


@breaks("STORE-WATCH-01")
class WakesOnce(StoreOver):
    """A watch ends when it wakes, so a value that is created again does not wake."""

    def __init__(self, inner):
        super().__init__(inner)

        class Once(_NotifierOver):
            async def watch(self, call_hash, wake):
                def once():
                    self.inner.unwatch(call_hash, once)
                    wake()

                return await self.inner.watch(call_hash, once)

        self.notifier = Once(inner.notifier)


@breaks("STORE-WATCH-02")
class WakesItself(StoreOver):
    """Only values that the same backend creates wake."""

    def __init__(self, inner):
        super().__init__(inner)
        self.own = {}
        store = self

        class Own(_NotifierOver):
            async def watch(self, call_hash, wake):
                store.own.setdefault(call_hash, []).append(wake)
                return True

            def unwatch(self, call_hash, wake):
                pass

        self.notifier = Own(inner.notifier)

    async def swap(self, swaps):
        done = await self.inner.swap(swaps)
        for swap in swaps:
            for wake in self.own.get(swap.key.call_hash, ()):
                wake()
        return done


@breaks("STORE-WATCH-04")
class WatchesOnce(StoreOver):
    """A call has one watch: ending one of several ends them all."""

    def __init__(self, inner):
        super().__init__(inner)
        self.wakes = {}
        store = self

        class Shared(_NotifierOver):
            async def watch(self, call_hash, wake):
                store.wakes.setdefault(call_hash, []).append(wake)
                return await self.inner.watch(call_hash, wake)

            def unwatch(self, call_hash, wake):
                for each in store.wakes.pop(call_hash, ()):
                    self.inner.unwatch(call_hash, each)

        self.notifier = Shared(inner.notifier)


@breaks("STORE-WATCH-05")
class WatchesOnClosed(StoreOver):
    """A watch on a closed backend is accepted, and never wakes."""

    def __init__(self, inner):
        super().__init__(inner)
        inner.notifier._session = type("Open", (), {"check": lambda _: None, "space": inner._space, "loop": None})()


@breaks("STORE-WATCH-06")
class CommitsInSilence(StepsOver):
    """A step writes a value, and does not tell the notifier."""

    async def commit(self, steps, *, readings=()):
        space = self.inner._space
        watching = dict(space.watching)
        space.watching.clear()
        done = await self.inner.commit(steps, readings=readings)
        space.watching.update(watching)
        return done
