"""The knowledge ledger: everything that each party ever decrypts, and who may know what."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from agents.client import pay as paying
from agents.client.wallet import Wallet
from protocol import answer
from protocol.envelope import EnvelopePrivateKey
from protocol.machine import Send
from protocol.messages import Payreq
from protocol.wallet import payment
from tests.agents.world import BANK, SHOP, Town, cash

Ledger = dict[tuple[str, str], list[bytes]]
CODE = "Bluesky over the harbour"


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, town: Town) -> Ledger:
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

    monkeypatch.setattr(EnvelopePrivateKey, "open", opened)
    monkeypatch.setattr("agents.bank.desks.desk.seal_answer", sealed)
    monkeypatch.setattr("agents.merchant.desk.seal_answer", sealed)
    monkeypatch.setattr("agents.merchant.desk.open_answer", heard)
    return known


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


def all_facts(ledger: Ledger, party: str, *kinds: str) -> set[bytes]:
    return {fact for kind in kinds for data in ledger[party, kind] for fact in facts(data)}


async def purchases(town: Town, wallets: list[Wallet]) -> list[Payreq]:
    """Several withdrawals and purchases of each wallet, and an inquiry; returns the payment requests."""
    agreed = []
    for wallet in wallets:
        await cash(wallet, 20)
        await cash(wallet, 7)
        for sku in ("novel", "card"):
            async with wallet.presence(town.address.broker) as requester:
                quote = await town.order(wallet, requester, sku)
                agreed.append(quote.payreq)
                row = await paying.pay(wallet, quote, requester, code=CODE)
                assert isinstance(row.state, payment.Paid)
    return agreed


async def inquire(town: Town, wallet: Wallet) -> None:
    """Send the inquiry that a wallet keeps for when the receipt is lost."""
    async with wallet.presence(town.address.broker) as requester:
        quote = await town.order(wallet, requester, "card")
        row = await paying.pay(wallet, quote, requester, code=CODE, patience_ms=0)
        assert isinstance(row.state, payment.Paying)
        bank, wanted = wallet.bank(), row.state.payment
        send = Send(BANK, "verdict", wanted.inquiry_id, wanted.inquiry, 0)
        sealed = await requester.ask(wanted.inquiry_id, lambda _: requester.send(send, 4), [10_000])
        assert sealed is not None
        wallet.open_from_bank(bank, wanted.inquiry_id, wanted.inquiry, sealed)


@pytest.fixture
async def run(town: Town, ledger: Ledger, caplog: pytest.LogCaptureFixture) -> Any:
    """A run of everything by two wallets, with logs of every level kept."""
    caplog.set_level(logging.DEBUG)
    async with town.open_wallet("alice") as alice, town.open_wallet("bob") as bob:
        for name, wallet in (("alice", alice), ("bob", bob)):
            await town.customer(wallet, name, 100)
        agreed = await purchases(town, [alice, bob])
        await inquire(town, bob)
        coins = []
        for wallet in (alice, bob):
            query: Callable[[Any], list[tuple[bytes, bytes]]] = lambda db: db.execute(  # noqa: E731
                "SELECT serial, signature FROM coin"
            ).fetchall()
            coins += await wallet.store.read(query)
    return agreed, coins


async def test_what_the_bank_knows_of_a_withdrawal_tells_it_nothing_about_a_payment(
    run: Any, ledger: Ledger, town: Town
) -> None:
    withdrawn = all_facts(ledger, "bank", "withdraw", "account")
    spent = all_facts(ledger, "bank", "deposit", "parcel", "verdict")
    announced = set(facts(town.mint.announcement)) | {d.id for d in town.keyset.denominations}
    assert len(ledger["bank", "withdraw"]) == 4
    assert len(ledger["bank", "parcel"]) >= 4
    assert len(ledger["bank", "verdict"]) == 1
    shop = all_facts({("shop", "keys"): [town.shop.desk.keys.public]}, "shop", "keys") | {town.shop.desk.keys.public}
    assert withdrawn & spent - announced - shop == set()
    assert len(withdrawn) > 20
    assert len(spent) > 20


async def test_no_two_requests_of_a_wallet_share_anything_but_the_account(run: Any, ledger: Ledger, town: Town) -> None:
    published = set(facts(town.mint.announcement)) | {d.id for d in town.keyset.denominations}
    payments = [set(facts(data)) for data in ledger["bank", "parcel"]]
    for index, one in enumerate(payments):
        for other in payments[index + 1 :]:
            assert one & other - published == set()


async def test_the_merchant_sees_no_serial_and_no_signature_of_a_coin(run: Any, ledger: Ledger) -> None:
    _, coins = run
    seen = b"".join(data for (party, _), known in ledger.items() if party == "shop" for data in known)
    assert len(coins) >= 8
    assert len(seen) > 10_000
    for serial, signature in coins:
        assert serial not in seen
        assert signature not in seen


async def test_the_bank_sees_neither_order_nor_salt_nor_payer_code(run: Any, ledger: Ledger) -> None:
    agreed, _ = run
    seen = b"".join(data for (party, _), known in ledger.items() if party == "bank" for data in known)
    for payreq in agreed:
        assert payreq.payment_id in seen, "what is searched is what was seen"
        assert payreq.salt not in seen
        for line in payreq.order:
            assert line.encode() not in seen
    assert CODE.encode() not in seen
    assert b"novel" not in seen
    assert SHOP.encode() not in b"".join(ledger["bank", "withdraw"])


async def test_what_is_on_the_wire_is_sealed(run: Any, town: Town, network: Any) -> None:
    _, coins = run
    wire = b"".join(message.topic.encode() + message.payload for message in network.published)
    for serial, signature in coins:
        assert serial not in wire
        assert signature not in wire
    assert CODE.encode() not in wire


async def test_every_visit_of_a_wallet_has_a_client_id_of_its_own(run: Any, network: Any) -> None:
    clients = [
        (message.topic.split("/")[-2], message.topic.split("/")[-1])
        for message in network.published
        if not message.retain and not message.topic.startswith("ecash/v1/reply/") and "presence" not in message.topic
    ]
    withdrawing = {client for kind, client in clients if kind in ("withdraw", "account")}
    paying_ = {client for kind, client in clients if kind in ("order", "pay", "verdict")}
    assert len(withdrawing) == 6
    assert len(paying_) == 5
    assert not withdrawing & paying_


async def test_logs_hold_no_serial_no_key_and_no_code(run: Any, town: Town, caplog: pytest.LogCaptureFixture) -> None:
    _, coins = run
    logged = "\n".join(record.getMessage() for record in caplog.get_records("setup")).lower()
    assert "bank.deposit.posted" in logged, "every level was kept"
    for secret in (*(serial for serial, _ in coins), town.mint.keys.identity, town.shop.desk.keys.identity):
        assert secret.hex()[:16] not in logged
        assert repr(secret)[2:-1].lower() not in logged
    assert CODE.lower() not in logged
