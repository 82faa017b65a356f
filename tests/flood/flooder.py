"""Publish requests to a bank, as fast as the broker takes them.

    python -m tests.flood.flooder PORT BANK CLIENTS [FILE]

It prints a line when it begins, and, when it is told to end by a line, how many it has published. The file holds
envelopes of withdrawals as JSON; without one, it is junk.
"""

import json
import secrets
import select
import sys
from pathlib import Path
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

WINDOW: Final = 1_000
"""How many publications of a client are unacknowledged at the most."""
BATCH: Final = 50


class Flooder:
    """One client."""

    def __init__(self, port: int, bank: str, kind: str) -> None:
        name = f"flooder-{secrets.token_hex(8)}"
        self.client = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
        self.client.max_inflight_messages_set(WINDOW)
        self.client.connect("127.0.0.1", port)
        self._topics = [f"ecash/v1/{bank}/{lane}/{kind}/{name}" for lane in range(4)]
        self.published = 0
        self._confirmed = 0
        self.client.on_publish = self._confirm

    def _confirm(self, *_: object) -> None:
        self._confirmed += 1

    def go_on(self, payloads: list[bytes]) -> None:
        """Publish some more, if the broker keeps up."""
        if self.client.is_connected() and self.published - self._confirmed < WINDOW:
            for _ in range(BATCH):
                payload = payloads[self.published % len(payloads)]
                self.client.publish(self._topics[self.published % 4], payload, qos=1)
                self.published += 1
        self.client.loop(0.0)


def main(port: str, bank: str, clients: str, source: str = "") -> None:
    """Publish until standard input says something."""
    payloads = [secrets.token_bytes(200)]
    if source:
        payloads = [bytes.fromhex(one) for one in json.loads(Path(source).read_text())]
    flooders = [Flooder(int(port), bank, "withdraw") for _ in range(int(clients))]
    while not all(one.client.is_connected() for one in flooders):
        for one in flooders:
            one.client.loop(0.01)
    sys.stdout.write("\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], 0)[0]:
        for one in flooders:
            one.go_on(payloads)
    sys.stdout.write(f"{sum(one.published for one in flooders)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
