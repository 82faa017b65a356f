"""A broker with all powers: it reads, drops, repeats, reorders, replays, rewrites, alters and invents."""

import random
from typing import Final

from broker.port import Outgoing
from protocol.answer import request_id_of
from protocol.errors import PeerError
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network

MINUTE_MS: Final = 60_000
"""The longest that anybody waits before it sends again."""
ASKED_ONCE: Final = frozenset({"account", "order"})
"""Kinds that are asked on the real clock, and given up soon: to lose them shows nothing."""


class HostileBroker(Network):
    """A network that does with every message what the dice say, beside delivering most of them.

    Args:
        clock: it is moved on when a message is lost, so that whoever waits sends again.
        seed: of the dice.

    Attributes:
        peaceful: True at first: it delivers everything once.
        deeds: what it has done.
    """

    def __init__(self, clock: VirtualClock, seed: int) -> None:
        super().__init__()
        self.deeds: list[str] = []
        self.peaceful = True
        self._clock = clock
        self._dice = random.Random(seed)
        self._recorded: list[Outgoing] = []
        self._late: list[Outgoing] = []
        self._patient: dict[bytes, bool] = {}

    def publish(self, message: Outgoing) -> None:
        if message.retain or self.peaceful:
            super().publish(message)
            return
        self._recorded.append(message)
        patient = self._is_patient(message)
        self._mischief(message)
        match self._dice.random():
            case chance if chance < 0.2 and patient:
                self._deed("dropped")
                self._clock.advance(MINUTE_MS)
            case chance if chance < 0.3 and patient:
                self._deed("delayed")
                self._late.append(message)
                self._clock.advance(MINUTE_MS)
            case chance if chance < 0.5:
                self._deed("doubled")
                super().publish(message)
                super().publish(message)
            case _:
                super().publish(message)
        if self._late and self._dice.random() < 0.3:
            self._deed("reordered")
            super().publish(self._late.pop(self._dice.randrange(len(self._late))))

    def _deed(self, name: str) -> None:
        self.deeds.append(name)

    def _is_patient(self, message: Outgoing) -> bool:
        """Whether who sent a request, or waits for an answer, sends again on the clock of the test."""
        *_, kind, _ = message.topic.split("/")
        if not message.topic.startswith("ecash/v1/reply/"):
            self._patient[message.correlation or b""] = kind not in ASKED_ONCE
            return kind not in ASKED_ONCE
        try:
            return self._patient.get(request_id_of(message.payload), False)
        except PeerError:
            return False

    def _mischief(self, message: Outgoing) -> None:
        """Publish something of one's own before the true message."""
        dice, payload = self._dice, message.payload
        match dice.randrange(8):
            case 0:
                self._deed("replayed")
                super().publish(dice.choice(self._recorded))
            case 1:
                self._deed("rewrote the topic")
                super().publish(Outgoing(dice.choice(self._recorded).topic, payload))
            case 2 if payload:
                self._deed("altered")
                place, bit = dice.randrange(len(payload)), 1 << dice.randrange(8)
                forged = payload[:place] + bytes([payload[place] ^ bit]) + payload[place + 1 :]
                super().publish(Outgoing(message.topic, forged))
            case 3:
                self._deed("cut")
                super().publish(Outgoing(message.topic, payload[: dice.randrange(len(payload) + 1)]))
            case 4:
                self._deed("invented")
                super().publish(Outgoing(message.topic, dice.randbytes(dice.choice([0, 1, 40, 557, 2000]))))
            case 5:
                self._deed("swapped the body")
                other = dice.choice(self._recorded).payload
                super().publish(Outgoing(message.topic, payload[:29] + other[29:]))
            case _:
                pass
