"""Who watches a sale is told when something of it has become durable."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self


class Bell(asyncio.Event):
    """Rings once for all that happened since it was last heard. `async for _ in bell` waits, and clears it, each time.

    A wait may be given up (a timeout, a cancellation) and taken up again; no ring is lost.
    """

    def __aiter__(self) -> Self:
        """Return the bell."""
        return self

    async def __anext__(self) -> None:
        """Wait until it rings, and clear it."""
        await self.wait()
        self.clear()


class Changes:
    """The bells of everybody who watches, by the sale's payment id."""

    def __init__(self) -> None:
        self._bells: dict[bytes, set[Bell]] = {}

    @contextmanager
    def watch(self, payment_id: bytes) -> Iterator[Bell]:
        """Hold a bell that rings at once, and then whenever something of this sale became durable in this process."""
        bell = Bell()
        bell.set()
        bells = self._bells.setdefault(payment_id, set())
        bells.add(bell)
        try:
            yield bell
        finally:
            bells.remove(bell)
            if not bells:
                del self._bells[payment_id]

    def tell(self, payment_id: bytes) -> None:
        """Ring the bells of this sale."""
        for bell in self._bells.get(payment_id, ()):
            bell.set()

    def __len__(self) -> int:
        """Return how many sales are watched."""
        return len(self._bells)
