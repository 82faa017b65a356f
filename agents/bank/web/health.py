"""How the bank does: its process, what the broker tells of it, its files."""

import asyncio
import fcntl
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from broker.mqtt import MqttLink
from broker.port import LinkError
from protocol import topics
from protocol.errors import PeerError
from protocol.messages import Status

from ...requester import NobodyAnswers, asking
from ...world import Entropy
from ..home import Settings

PATIENCE_S: Final = 1.0
"""How long the broker is waited for; the last half of it, for what it has retained."""
_THOUSAND: Final = 1000

Ask: TypeAlias = Callable[[], Awaitable[str]]
"""Returns what the broker tells of the bank, in a sentence."""


class Health(NamedTuple):
    """What is known of the bank's process and files; sizes in bytes."""

    running: bool
    broker: str
    books: int
    free: int


async def health(home: Path, ask: Ask) -> Health:
    """Look at the bank of a home."""
    told, (running, books, free) = await asyncio.gather(ask(), asyncio.to_thread(_files, home))
    return Health(running, told, books, free)


def _files(home: Path) -> tuple[bool, int, int]:
    books = sum(path.stat().st_size for path in home.glob("books.db*"))
    return is_running(home), books, shutil.disk_usage(home).free


def is_running(home: Path) -> bool:
    """Tell whether a process holds the home; see `agents.home.locked`.

    The lock that is tried for that is shared, and let go at once.
    """
    try:
        with (home / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def asks_broker(settings: Settings, entropy: Entropy) -> Ask:
    """Return what asks the bank's broker, as a stranger who may hear only what everybody may."""
    broker = settings.customers_broker

    async def ask() -> str:
        try:
            async with asyncio.timeout(PATIENCE_S):
                link = MqttLink(broker, entropy.bytes(16).hex(), persistent=False)
                async with asking(link) as requester:
                    data = await requester.retained(topics.status(settings.name), PATIENCE_S / 2)
            status = Status.decode(data)
        except (TimeoutError, LinkError):
            return f"not reached within {PATIENCE_S:.0f} second: {broker.public}"
        except (NobodyAnswers, PeerError):
            return "it announces nothing of this bank"
        return f"open, on {status.lanes} lanes" if status.open else "it says that the bank is closed"

    return ask


def size_text(size: int) -> str:
    """Write a number of bytes for a person: `4.2 MB`."""
    amount, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < _THOUSAND:
            break
        amount, unit = amount / _THOUSAND, larger
    return f"{size} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
