"""Who has come to know what: nothing links coins that are signed to coins that are spent, and no merchant sees one."""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from broker.port import Outgoing
from protocol import topics
from protocol.refusals import TABLE, Advice, Refusal

_LEAST: Final = 8
_MINTING: Final = frozenset({"withdraw", "ticket"})
_SPENDING: Final = frozenset({"parcel", "deposit", "verdict", "exchange"})


class Said(NamedTuple):
    """What a bank has sealed as an answer: to which request, and with which refusal."""

    request_id: bytes
    hashed: bytes
    refusal: str


class Knowledge:
    """The ledger of who knows what, and of what the banks have answered.

    Args:
        fail: is told what must not be.
    """

    def __init__(self, fail: Callable[[str], None]) -> None:
        self._fail = fail
        self._banks: set[bytes] = set()
        self._published: set[bytes] = set()
        self._minting: set[bytes] = set()
        self._spending: set[bytes] = set()
        self._shops = bytearray()
        self.answers: dict[bytes, Said] = {}

    def publish(self, envelope_key_ids: set[bytes], announced: bytes, denominations: set[bytes]) -> None:
        """Note what everybody knows of a bank."""
        self._banks |= envelope_key_ids
        self._published |= set(facts(announced)) | denominations

    def opened(self, key_id: bytes, kind: str, plaintext: bytes) -> None:
        """Note what somebody has decrypted."""
        if key_id not in self._banks:
            self._shops += plaintext
        elif kind in _MINTING:
            self._minting |= set(facts(plaintext))
        elif kind in _SPENDING:
            self._spending |= set(facts(plaintext))

    def said(self, data: bytes, request_id: bytes, hashed: bytes, refusal: str) -> None:
        """Note what a bank has sealed."""
        self.answers[data] = Said(request_id, hashed, refusal)

    def check_links(self) -> None:
        """Fail if what was known at the minting stage is known at the deposit stage, too."""
        common = (self._minting & self._spending) - self._published
        for fact in sorted(common)[:3]:
            self._fail(f"E11: the bank saw {fact.hex()[:32]} both when coins were signed and when they were spent")

    def check_shops(self, secrets: set[bytes]) -> None:
        """Fail if a merchant has decrypted a coin's serial number or signature."""
        seen = bytes(self._shops)
        for secret in secrets:
            if secret in seen:
                self._fail(f"E11: a merchant has seen {secret.hex()[:16]} of a coin")
                return

    def check_answer(self, message: Outgoing, stored: dict[bytes, tuple[bytes, bytes]], *, changes: bool) -> None:
        """Fail if an answer goes out that is not the stored one, or one that `changes` the books and is not stored."""
        said = self.answers.get(message.payload)
        kept = stored.get(message.correlation or b"")
        if said is None or said.refusal == Refusal.REQUEST_ID_REUSED:
            return
        if said.refusal and TABLE[Refusal(said.refusal)].advice is Advice.RETRY:
            return
        if kept is not None and kept[0] == said.hashed and kept[1] != message.payload:
            self._fail(f"E6: request {said.request_id.hex()[:8]} was answered otherwise before")
        if kept is None and changes and not said.refusal:
            self._fail(f"E6: the answer to request {said.request_id.hex()[:8]} went out and is not stored")


def facts(data: bytes) -> Iterator[bytes]:
    """Yield every text and byte string of 8 bytes or more in a message, and in the messages inside it."""
    try:
        stack = [msgspec.msgpack.decode(data)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    while stack:
        one = stack.pop()
        if isinstance(one, list):
            stack += one
        elif isinstance(one, str | bytes) and len(one) >= _LEAST:
            yield one.encode() if isinstance(one, str) else one
            if isinstance(one, bytes):
                yield from facts(one)


def is_reply_of(bank: str) -> Callable[[str], bool]:
    """Tell of a topic whether a bank answers there."""

    def tell(topic: str) -> bool:
        return topic.startswith(f"{topics.ROOT}/reply/") and topic.endswith(f"/{bank}")

    return tell
