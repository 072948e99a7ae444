"""Backends that change the work of others when they are set up, opened or closed."""

import asyncio

from mutants.kit import QueueOver, Sound, breaks


class _Meddles(Sound):
    """Knows the space that it shares with others."""

    async def start(self):
        roles = await super().start()
        self.space = roles.store.inner._session.space
        return roles

    @property
    def leases(self):
        return [lease for topic in self.space.topics.values() for _, _, lease in topic._leases if lease.live]


@breaks("BACKEND-BESIDE-01")
class ReleasesAllOnOpening(_Meddles):
    """Opening releases all leases, because those of dead workers must not last."""

    async def start(self):
        roles = await super().start()
        for lease in self.leases:
            lease.topic.ready.append(lease.topic.end(lease))
        return roles


@breaks("BACKEND-BESIDE-01")
class HurriesOnOpening(_Meddles):
    """Opening makes all delayed messages ready."""

    async def start(self):
        roles = await super().start()
        for topic in self.space.topics.values():
            topic.ready.extend(message for _, _, message in topic._delayed)
            topic._delayed.clear()
        return roles


@breaks("BACKEND-BESIDE-01")
class RenewsReceiptsOnOpening(_Meddles):
    """Opening gives all leases new receipts, so that the old ones are stale."""

    async def start(self):
        roles = await super().start()
        loop = asyncio.get_running_loop()
        for lease in self.leases:
            lease.topic.put_leased(lease.topic.end(lease), deadline=lease.deadline, current_loop=loop)
        return roles


@breaks("BACKEND-BESIDE-01")
class AcknowledgesAllOnClosing(_Meddles):
    """Closing acknowledges all leased messages."""

    async def stop(self):
        for lease in self.leases:
            lease.topic.end(lease)
        await super().stop()


@breaks("BACKEND-BESIDE-01")
class DropsAllOnClosing(_Meddles):
    """Closing drops all dead letters."""

    async def stop(self):
        for topic in self.space.topics.values():
            topic.dead.clear()
        await super().stop()


@breaks("BACKEND-BESIDE-01")
class ForgetsCountersOnClosing(_Meddles):
    """Closing deletes all counters."""

    async def stop(self):
        self.space.counters.clear()
        await super().stop()


@breaks("BACKEND-BESIDE-03")
class AcknowledgesItsOwnOnClosing(Sound):
    """Closing acknowledges the messages that the backend holds."""

    class queue_kind(QueueOver):  # noqa: N801 - replaces an attribute of that name
        def __init__(self, inner):
            super().__init__(inner)
            self.held = []

        async def receive(self, topic, *, limit, wait):
            found = await self.inner.receive(topic, limit=limit, wait=wait)
            self.held += found
            return found

    async def close(self):
        if self._roles is not None:
            await self.queue.inner.ack(self.queue.held)
        await super().close()


@breaks("BACKEND-BESIDE-03")
class KeepsDelaysItself(Sound):
    """The backend keeps delayed messages in its own memory until they are due."""

    class queue_kind(QueueOver):  # noqa: N801 - replaces an attribute of that name
        def __init__(self, inner):
            super().__init__(inner)
            self.later = set()

        async def put(self, topic, bodies, *, delay=0):
            if not delay:
                await self.inner.put(topic, bodies)
                return
            task = asyncio.create_task(self._put_later(topic, bodies, delay))
            self.later.add(task)

        async def _put_later(self, topic, bodies, delay):
            await asyncio.sleep(delay)
            await self.inner.put(topic, bodies)

    async def close(self):
        if self._roles is not None:
            for task in self.queue.later:
                task.cancel()
        await super().close()
