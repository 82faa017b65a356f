"""Time that passes when a test says so."""

import asyncio
import heapq
import itertools

HOUR_MS = 3_600_000


class VirtualClock:
    """A `agents.world.Clock`: it stands still until `advance`.

    Whoever asks to sleep until a time that has come goes on at once, so it does not matter whether the sleeper or the
    test comes first.
    """

    def __init__(self, now: int) -> None:
        self._now = now
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now(self) -> int:
        return self._now

    async def sleep_until(self, at: int) -> None:
        if at > self._now:
            waking: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._sleepers, (at, next(self._order), waking))
            await waking

    def advance(self, milliseconds: int) -> None:
        """Let time pass, and wake who wanted to be woken meanwhile, in order."""
        self._now += milliseconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, waking = heapq.heappop(self._sleepers)
            if not waking.done():
                waking.set_result(None)
