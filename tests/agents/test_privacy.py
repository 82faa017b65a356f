"""The knowledge ledger: everything that each party ever decrypts, and who may know what."""

import asyncio
import base64
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from broker.port import Outgoing
from protocol import answer
from protocol.envelope import EnvelopePrivateKey
from tests.agents.world import SHOP, START, Town, simulated
from tests.attacks.day import BANK_KINDS, CODE, Day, a_day
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network

Ledger = dict[tuple[str, str], list[bytes]]
ACCOUNT = ("account", "withdraw", "recover", "redeem")
"""What a customer says under its account."""
ANONYMOUS = ("deposit", "parcel", "verdict", "exchange", "ticket", "fetch", "check", "proof")
"""What the bank learns of coins whose owner it must not know. The merchant's name is on a deposit."""
MERCHANTS = ("refund", "payout")


def overhear(patch: pytest.MonkeyPatch, town: Town) -> Ledger:
    """Record what is decrypted, by the party that does it and the kind of message; answers under the kind `answer`."""
    known: Ledger = {}
    open_envelope, seal_answer, open_answer = EnvelopePrivateKey.open, answer.seal_answer, answer.open_answer
    bank_keys = {key.key_id for key in town.mint.keys.envelopes.values()}

    def opened(self: EnvelopePrivateKey, data: bytes, kind: str) -> bytes:
        plaintext = open_envelope(self, data, kind)
        known.setdefault(("bank" if self.key_id in bank_keys else "shop", kind), []).append(plaintext)
        return plaintext

    def sealed(seed: bytes, key: bytes, request_id: bytes, hashed: bytes, said: answer.Answer) -> bytes:
        party = "bank" if seed == town.mint.keys.identity else "shop"
        known.setdefault((party, "said"), []).append(said.encode())
        return seal_answer(seed, key, request_id, hashed, said)

    def heard(signer: bytes, key: bytes, hashed: bytes, data: bytes) -> answer.Answer:
        found = open_answer(signer, key, hashed, data)
        known.setdefault(("shop", "answer"), []).append(found.encode())
        return found

    patch.setattr(EnvelopePrivateKey, "open", opened)
    patch.setattr("agents.bank.desks.desk.seal_answer", sealed)
    patch.setattr("agents.merchant.desk.seal_answer", sealed)
    patch.setattr("agents.merchant.desk.open_answer", heard)
    return known


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, town: Town) -> Ledger:
    return overhear(monkeypatch, town)


class Seen(NamedTuple):
    """A day, and what there was to see of it.

    Attributes:
        day: what was done.
        ledger: what each party has decrypted.
        published: what went over the broker.
        logged: everything that was logged, at any level.
        keys: the long-term private keys, by what they are.
        known: what everybody knows.
        shop: the shop's public key.
    """

    day: Day
    ledger: Ledger
    published: list[Outgoing]
    logged: str
    keys: dict[str, bytes]
    known: set[bytes]
    shop: bytes


class Notebook(logging.Handler):
    """Keeps the text of every record, with its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def everything_logged() -> Iterator[Notebook]:
    notebook, root = Notebook(), logging.getLogger()
    level = root.level
    root.addHandler(notebook)
    root.setLevel(logging.DEBUG)
    try:
        yield notebook
    finally:
        root.setLevel(level)
        root.removeHandler(notebook)


async def watched_day(folder: Path, patch: pytest.MonkeyPatch) -> Seen:
    """Let a day pass in a town of its own, and keep what could be seen."""
    network = Network()
    town = Town(folder, simulated(network), VirtualClock(START))
    await town.found()
    await town.start_bank()
    await town.start_shop()
    ledger, shop = overhear(patch, town), town.shop.desk.keys
    with everything_logged() as notebook:
        day = await a_day(town)
    await town.close()
    known = set(facts(town.mint.announcement)) | {d.id for d in town.keyset.denominations} | {shop.public}
    keys = {"the bank's identity": town.mint.keys.identity, "the shop's identity": shop.identity}
    return Seen(day, ledger, network.published, "\n".join(notebook.lines), keys, known, shop.public)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    with pytest.MonkeyPatch.context() as patch:
        return asyncio.run(watched_day(tmp_path_factory.mktemp("day"), patch))


def facts(data: bytes) -> Iterator[bytes]:
    """Every text and byte string of 8 bytes or more in a message, and in the messages inside it."""
    try:
        value = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, list):
            stack += one
        elif isinstance(one, str | bytes) and len(one) >= 8:
            yield one.encode() if isinstance(one, str) else one
            if isinstance(one, bytes):
                yield from facts(one)


def numbers(data: bytes) -> Iterator[int]:
    """Every integer in a message, and in the messages inside it."""
    try:
        stack = [msgspec.msgpack.decode(data)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    while stack:
        one = stack.pop()
        if isinstance(one, list):
            stack += one
        elif isinstance(one, int):
            yield one
        elif isinstance(one, bytes) and len(one) >= 8:
            yield from numbers(one)


def all_facts(ledger: Ledger, party: str, *kinds: str) -> set[bytes]:
    return {fact for kind in kinds for data in ledger[party, kind] for fact in facts(data)}


def test_every_kind_of_message_is_looked_at(seen: Seen) -> None:
    kinds = {kind for party, kind in seen.ledger if party == "bank"} - {"said"}
    assert kinds == set(ACCOUNT + ANONYMOUS + MERCHANTS) == BANK_KINDS | {"parcel", "ticket"}


def test_what_the_bank_knows_of_an_account_tells_it_nothing_about_a_payment(seen: Seen) -> None:
    named = all_facts(seen.ledger, "bank", *ACCOUNT) - {b"bookshop"}  # the shop looks at its account, too
    nameless = all_facts(seen.ledger, "bank", *ANONYMOUS) - {b"bookshop"}
    assert named & nameless - seen.known == set()
    assert min(len(named), len(nameless)) > 40


def test_no_two_requests_of_a_wallet_share_anything_but_the_account(seen: Seen) -> None:
    for kind in ("parcel", "exchange", "ticket", "proof", "verdict"):  # a check names a denomination and no coin
        told = [set(facts(data)) for data in set(seen.ledger["bank", kind])]
        for index, one in enumerate(told):
            for other in told[index + 1 :]:
                assert one & other - seen.known - {kind.encode()} == set(), kind


def test_the_only_times_that_a_wallet_names_are_full_hours(seen: Seen) -> None:
    """Its clock's error would tell it from others."""
    times = {
        value
        for kind in (*ACCOUNT, "verdict", "exchange", "fetch", "check", "proof")
        for data in seen.ledger["bank", kind]
        if seen.shop not in data
        for value in numbers(data)
        if 10**12 < value < 10**15
    }
    agreed = {one for payreq in seen.day.agreed for one in (payreq.timestamp, payreq.expires, payreq.deposit_before)}
    assert len(times - agreed) >= 1
    assert {one % HOUR_MS for one in times - agreed} == {0}


def test_the_merchant_sees_no_serial_and_no_signature_of_a_coin(seen: Seen) -> None:
    read = b"".join(data for (party, _), known in seen.ledger.items() if party == "shop" for data in known)
    assert len(seen.day.coins) >= 30
    assert len(read) > 10_000
    for serial, signature in seen.day.coins:
        assert serial not in read
        assert signature not in read


def test_the_bank_sees_neither_order_nor_salt_nor_payer_code(seen: Seen) -> None:
    read = b"".join(data for (party, _), known in seen.ledger.items() if party == "bank" for data in known)
    for payreq in seen.day.agreed:
        assert payreq.payment_id in read, "what is searched is what was read"
        assert payreq.salt not in read
        for line in payreq.order:
            assert line.encode() not in read
    assert b"novel" not in read
    unproven = b"".join(data for kind in (*ACCOUNT, *ANONYMOUS[:-1], *MERCHANTS) for data in seen.ledger["bank", kind])
    assert CODE.encode() not in unproven, "but who asks for a proof shows it"
    assert SHOP.encode() not in b"".join(seen.ledger["bank", "withdraw"])


def test_what_is_on_the_wire_is_sealed(seen: Seen) -> None:
    wire = b"".join(message.topic.encode() + message.payload for message in seen.published)
    for serial, signature in seen.day.coins:
        assert serial not in wire
        assert signature not in wire
    assert CODE.encode() not in wire


def test_every_visit_of_a_wallet_has_a_client_id_of_its_own(seen: Seen) -> None:
    kinds = dict[str, set[str]]()
    for message in seen.published:
        *_, kind, client = message.topic.split("/")
        if not message.retain and not message.topic.startswith("ecash/v1/reply/") and "presence" not in message.topic:
            kinds.setdefault(client, set()).add(kind)
    together = {frozenset(one) for one in kinds.values()}
    assert {frozenset(one) for one in (ACCOUNT[:1], ACCOUNT[1:2], ACCOUNT[2:3], ACCOUNT[3:])} <= together
    assert all(one <= set(ACCOUNT) or not one & set(ACCOUNT) for one in together if "payout" not in one)
    alone = {"exchange", "check", "proof", "fetch"}
    assert all(len(one) == 1 or one == {"refund", "fetch"} for one in together if one & alone)
    for client, spoken in kinds.items():
        asked = [m for m in seen.published if m.topic.endswith(f"/{client}") and spoken & {"check", "proof"}]
        assert len({message.payload for message in asked}) <= 1, "one question, one connection"


def spellings(secret: bytes) -> Iterator[str]:
    """How a secret could stand in a text; what is long enough to be no accident."""
    yield secret.hex()[:24]
    yield base64.b64encode(secret)[:20].decode()
    yield base64.urlsafe_b64encode(secret)[:20].decode()
    yield repr(secret)[2:-1][:24]
    yield secret.decode("latin-1")[:16]


def test_logs_hold_no_serial_no_key_and_no_code(seen: Seen) -> None:
    logged = seen.logged.lower()
    assert "bank.deposit.posted" in logged, "every level was kept"
    serials = {f"coin {number}": serial for number, (serial, _) in enumerate(seen.day.coins)}
    signatures = {f"signature {number}": signature for number, (_, signature) in enumerate(seen.day.coins)}
    salts = {f"salt {number}": payreq.salt for number, payreq in enumerate(seen.day.agreed)}
    secrets = seen.day.secrets | seen.keys | serials | signatures | salts
    assert len(secrets) > 80
    for what, secret in secrets.items():
        for spelling in spellings(secret):
            assert spelling.lower() not in logged, what
