"""What can be told from shapes: sizes on the wire, and two buyers who have changed places."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from protocol import topics
from protocol.envelope import EnvelopePrivateKey
from protocol.errors import PeerError
from protocol.wallet import payment
from tests.agents.byhand import Caller
from tests.agents.world import Town, cash, simulated
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network
from tests.world import seed

from .day import BANK_KINDS, a_day

ENVELOPE: Final = 18 + 1120 + 16
"""Header, encapsulated key of the hybrid suite, and tag: what an envelope has beside its padded plaintext."""
ANSWER: Final = 17 + 12 + 16
CLASSES: Final = {
    "account": {512},
    "check": {512},
    "deposit": {4096},
    "exchange": {2048},
    "fetch": {512},
    "order": {512},
    "pay": {4096},
    "payout": {512},
    "proof": {512},
    "recover": {512},
    "redeem": {1024, 2048},
    "refund": {512, 4096},
    "verdict": {512},
    "withdraw": {2048, 4096},
    "reply": {512, 1024, 2048, 4096, 8192},
}
"""Bytes of padded plaintext, for each kind of message in a day; `reply` are all answers of everybody."""


def kind_of(topic: str) -> str | None:
    """The kind of a request, `reply`, or None for anything else."""
    try:
        found = topics.parse(topic)
    except PeerError:
        return None
    if isinstance(found, topics.BankRequest | topics.MerchantRequest):
        return found.kind
    return "reply" if isinstance(found, topics.Reply) else None


async def test_sizes_on_the_wire_fall_into_few_classes(town: Town, network: Network) -> None:
    await a_day(town)
    found = defaultdict[str, set[int]](set)
    for message in network.published:
        kind = kind_of(message.topic)
        if kind is not None:
            found[kind].add(len(message.payload) - (ANSWER if kind == "reply" else ENVELOPE))
    assert found.keys() == CLASSES.keys() == BANK_KINDS | topics.MERCHANT_KINDS | {"reply"}
    for kind, sizes in found.items():
        assert all(size.bit_count() == 1 for size in sizes), kind
        assert sizes <= CLASSES[kind] | {2 * size for size in CLASSES[kind]}, kind
        assert len(sizes) <= len(CLASSES[kind]) + 1, kind


async def test_the_number_of_coins_shows_in_few_sizes(founded: Town) -> None:
    caller = Caller(founded, "customer", seed("a customer's key"))
    sizes = set[int]()
    for count in (*range(1, 13), 19, 20, 27, 28, 40):
        _, _, body = caller.order_coins(*[1] * count)
        sizes.add(len(caller.seal("withdraw", body).envelope))
    assert len(sizes) == 6, "1 to 40 coins"


# ---------------------------------------------------------------- two buyers change places


class Transcript:
    """Everything that the bank gets to read, in order, with names for what is no more than an arbitrary string.

    A name is given where a string stands for the first time. So two transcripts that differ in their arbitrary strings
    alone are equal, but only if the same strings stand in the same places.
    """

    def __init__(self, known: Iterable[bytes]) -> None:
        self.lines: list[Any] = []
        self._names = {one: f"known {number}" for number, one in enumerate(known)}

    def read(self, kind: str, size: int, plaintext: bytes) -> None:
        self.lines.append((kind, size, self._renamed(msgspec.msgpack.decode(plaintext))))

    def _renamed(self, value: Any) -> Any:
        if isinstance(value, list):
            if len(value) > 1 and all(isinstance(one, list) for one in value):  # coins, in the order of their serials
                value = sorted(value, key=lambda one: str([self._names.get(part, "") for part in leaves(one)]))
            return [self._renamed(one) for one in value]
        if isinstance(value, bytes) and len(value) >= 8:
            inside = nested(value)
            return self._renamed(inside) if inside is not None else self._name(value)
        return value

    def _name(self, value: bytes) -> str:
        return self._names.setdefault(value, f"string {len(self._names)} of {len(value)} bytes")


def nested(data: bytes) -> Any:
    try:
        value = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return value if isinstance(value, list) and len(value) > 1 else None


def leaves(value: Any) -> Iterator[bytes]:
    if isinstance(value, list):
        for one in value:
            yield from leaves(one)
    elif isinstance(value, bytes):
        yield value


async def story(folder: Path, patch: pytest.MonkeyPatch, first: str, second: str) -> Transcript:
    """Alice and Bob withdraw alike; then `first` buys a novel and `second` a postcard. What the bank reads."""
    network = Network()
    town = Town(folder, simulated(network), VirtualClock(1_700_000_000_000))
    await town.found()
    await town.start_bank()
    await town.start_shop()
    bank = {key.key_id for key in town.mint.keys.envelopes.values()}
    transcript = Transcript(one.id for one in town.keyset.denominations)
    open_envelope = EnvelopePrivateKey.open

    def opened(self: EnvelopePrivateKey, data: bytes, kind: str) -> bytes:
        plaintext = open_envelope(self, data, kind)
        if self.key_id in bank:
            transcript.read(kind, len(data), plaintext)
        return plaintext

    async with town.open_wallet("alice") as alice, town.open_wallet("bob") as bob:
        patch.setattr(EnvelopePrivateKey, "open", opened)
        wallets = {"alice": alice, "bob": bob}
        for name, wallet in wallets.items():
            await town.customer(wallet, name, 200)
        for wallet in wallets.values():
            await cash(wallet, 40)
        for name, sku in ((first, "novel"), (second, "card"), (first, "card")):
            assert isinstance((await town.buy(wallets[name], sku)).state, payment.Paid)
        patch.undo()
    await town.close()
    return transcript


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    found = [tmp_path / name for name in ("one", "other")]
    for folder in found:
        folder.mkdir()
    return found


async def test_the_bank_reads_the_same_whoever_of_two_customers_it_was_that_paid(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await story(folders[0], monkeypatch, "alice", "bob")
    other = await story(folders[1], monkeypatch, "bob", "alice")
    assert [kind for kind, _, _ in one.lines].count("parcel") == 3
    assert one.lines == other.lines


def test_a_single_string_that_came_along_from_the_withdrawal_would_show() -> None:
    """What the comparison above is worth: a payment id that is the withdrawal's request id is found."""
    one, other = Transcript(()), Transcript(())
    withdrawals = [seed("alice's withdrawal"), seed("bob's withdrawal")]
    for transcript, payer in ((one, 0), (other, 1)):
        for request_id in withdrawals:
            transcript.read("withdraw", 512, msgspec.msgpack.encode(["withdraw", request_id]))
        transcript.read("parcel", 512, msgspec.msgpack.encode(["parcel", withdrawals[payer]]))
    assert one.lines != other.lines
