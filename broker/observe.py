"""What travels, as a person wants to see it: when, who to whom, what, how much, how fast. Never what it says."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rich.markup import escape

from protocol.errors import PeerError
from protocol.topics import ROOT, Announcement, BankRequest, Inbox, MerchantRequest, Reply, parse

from .address import BrokerUrl
from .mqtt import MqttLink
from .port import Incoming, Outgoing

_REMEMBERED: Final = 4096
_SHOWN: Final = 16

Describe = Callable[[str, bytes], str]
"""Says what can be told of a message of this kind without any key: version, suite, key id, what is announced."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One message that was seen.

    Attributes:
        at: seconds since 1970.
        sender: client id, bank or merchant; empty if the topic is not ours.
        receiver: the same, or "all".
        kind: of the request or announcement, "answer …" with the kind of the request, or "?" if not ours.
        size: of the payload, in bytes.
        took_s: seconds since the request that this answers, if it was seen.
        repeated: the request was seen before and is not answered yet.
        topic: as it came, printable or not.
        note: what `Describe` says.
    """

    at: float
    sender: str
    receiver: str
    kind: str
    size: int
    took_s: float | None
    repeated: bool
    topic: str
    note: str

    @property
    def known(self) -> bool:
        """False for a topic that is none of the protocol's."""
        return self.kind != "?"


@dataclass(frozen=True, slots=True)
class _Asked:
    kind: str
    at: float


class Observer:
    """Reads messages off the wire and matches answers to requests, by client, agent and correlation.

    An answer without correlation is matched to the oldest request. The last 4,096 unanswered requests are
    remembered.
    """

    def __init__(self, describe: Describe | None = None) -> None:
        self._describe = describe
        self._asked: dict[tuple[str, str, bytes | int], _Asked] = {}
        self._count = 0

    def see(self, at: float, topic: str, payload: bytes, correlation: bytes | None = None) -> Sighting:
        """Take note of a message; never fails, whatever its topic."""
        self._count += 1
        took_s, repeated = None, False
        try:
            parsed = parse(topic)
        except PeerError:
            sender, receiver, kind = "", "", "?"
        else:
            match parsed:
                case BankRequest(owner, _, kind, client) | MerchantRequest(owner, kind, client):
                    sender, receiver = client, owner
                    repeated = self._ask(client, owner, correlation, _Asked(kind, at))
                case Reply(client, owner):
                    sender, receiver, kind = owner, client, "answer"
                    asked = self._answered(client, owner, correlation)
                    if asked is not None:
                        took_s, kind = at - asked.at, f"answer {asked.kind}"
                case Announcement(owner, what):
                    sender, receiver, kind = owner, "all", what
                case Inbox(client, giver):
                    sender, receiver, kind = giver, client, "inbox"
        note = self._describe(kind, payload) if self._describe and kind != "?" else ""
        return Sighting(at, sender, receiver, kind, len(payload), took_s, repeated, topic, note)

    def _ask(self, client: str, owner: str, correlation: bytes | None, asked: _Asked) -> bool:
        key = (client, owner, self._count if correlation is None else correlation)
        if key in self._asked:
            return True
        self._asked[key] = asked
        if len(self._asked) > _REMEMBERED:
            del self._asked[next(iter(self._asked))]
        return False

    def _answered(self, client: str, owner: str, correlation: bytes | None) -> _Asked | None:
        if correlation is not None:
            return self._asked.pop((client, owner, correlation), None)
        oldest = next((key for key in self._asked if key[:2] == (client, owner)), None)
        return self._asked.pop(oldest) if oldest else None


def line(sighting: Sighting) -> str:
    """One line in rich's markup. What came from outside cannot colour it or move the cursor."""
    clock = datetime.fromtimestamp(sighting.at, UTC).strftime("%H:%M:%S.%f")[:-3]
    if not sighting.known:
        return f"[dim]{clock}[/] [red]not ours[/] {escape(ascii(sighting.topic))} {_size(sighting.size)}"
    parts = [
        f"[dim]{clock}[/]",
        f"[cyan]{_short(sighting.sender):>{_SHOWN}}[/] → [cyan]{_short(sighting.receiver):<{_SHOWN}}[/]",
        f"[bold]{sighting.kind:<15}[/]",
        f"{_size(sighting.size):>9}",
    ]
    if sighting.took_s is not None:
        parts.append(f"[green]{sighting.took_s * 1000:.1f} ms[/]")
    if sighting.repeated:
        parts.append("[yellow]again[/]")
    if sighting.note:
        parts.append(f"[dim]{escape(sighting.note)}[/]")
    return " ".join(parts)


async def watch(
    url: BrokerUrl,
    on_sighting: Callable[[Sighting], None],
    *,
    describe: Describe | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Report everything that travels, until cancelled.

    On a broker with rights the address has the log-in "observer"; without one, only announcements are heard.

    Raises:
        NotAuthorized, LinkDown: as on entering a `Link`.
    """
    observer = Observer(describe)

    async def see(message: Incoming) -> Outgoing | None:
        on_sighting(observer.see(clock(), message.topic, message.payload, message.correlation))
        return None

    async with MqttLink(url, f"observer-{secrets.token_hex(8)}", persistent=False) as link:
        await link.subscribe(f"{ROOT}/#")
        await link.serve(see, concurrency=1)


def _short(name: str) -> str:
    return name if len(name) <= _SHOWN else name[: _SHOWN - 1] + "…"


def _size(count: int) -> str:
    return f"{count} B" if count < 10_000 else f"{count / 1024:.0f} KiB"
