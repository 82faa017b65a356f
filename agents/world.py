"""The agents' view of the world outside: clock and entropy, as ports, and the real ones."""

import asyncio
import secrets
import time
from typing import Protocol


class Clock(Protocol):
    """Time: what it is, and a way to wait for it."""

    def now(self) -> int:
        """Return milliseconds since 1970-01-01 UTC."""
        ...

    async def sleep_until(self, at: int) -> None:
        """Return when it is `at` (milliseconds since 1970), at once if that is past."""
        ...


class Entropy(Protocol):
    """Randomness that nobody can predict."""

    def bytes(self, length: int) -> bytes:
        """Return so many random bytes."""
        ...

    def jitter(self) -> int:
        """Return a random number of thousandths, 0 … 1000."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Return milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000

    async def sleep_until(self, at: int) -> None:
        """Return when it is `at`."""
        await asyncio.sleep(max(0, at - self.now()) / 1000)


class SystemEntropy:
    """The operating system's random generator."""

    def bytes(self, length: int) -> bytes:
        """Return so many random bytes."""
        return secrets.token_bytes(length)

    def jitter(self) -> int:
        """Return a random number of thousandths, 0 … 1000."""
        return secrets.randbelow(1001)
