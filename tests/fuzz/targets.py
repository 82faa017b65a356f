"""What is fuzzed: each target takes bytes to where they would arrive, and says what became of them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from agents.client import exchange as exchanging
from agents.client import pay as paying
from agents.client import withdraw as withdrawing
from agents.client.drive import Read
from agents.client.store import ExchangeRow
from agents.client.wallet import Wallet
from broker.port import Incoming, Outgoing
from protocol import topics
from protocol.answer import Answer, seal_answer
from protocol.codec import Message
from protocol.coins import Evidence
from protocol.envelope import Letter, request_hash, seal, seal_letter
from protocol.errors import PeerError
from protocol.exchange import Issue
from protocol.keyset import SignedKeyset, open_keyset
from protocol.messages import (
    AccountRequest,
    BlindSignature,
    DepositAnswer,
    DepositRequest,
    Exhibits,
    InquiryAnswer,
    OrderLine,
    OrderRequest,
    PayAnswer,
    PayRequest,
    Signed,
    WithdrawAnswer,
)
from protocol.money import Amount
from protocol.proof import PaymentProof, open_proof
from protocol.refusals import Refusal
from protocol.signatures import Domain
from protocol.totals import DenominationTotal, Totals, open_totals
from protocol.wallet import exchange, payment, withdrawal
from protocol.wallet.paying import open_catalog, open_payreq
from tests.agents.byhand import Caller, client, shopkeeper
from tests.agents.world import BANK, SHOP, START, Town, cash, simulated
from tests.shapes import message_types
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network
from tests.world import seed

from .desks import desk_targets
from .target import DROPPED, INSIDE, REFUSED, TAKEN, Run, Target


def _pure(check: Callable[[bytes], object]) -> Run:
    async def run(data: bytes) -> str:
        try:
            check(data)
        except PeerError:
            return REFUSED
        return TAKEN

    return run


class Range:
    """A town under fire."""

    def __init__(self, town: Town, network: Network, alice: Caller, keeper: Caller) -> None:
        self.town = town
        self.network = network
        self.alice = alice
        self.keeper = keeper

    async def targets(self, wallet: Wallet) -> list[Target]:
        return [
            *self._codec(),
            *self._statements(),
            *await self._bank(),
            *await desk_targets(self.town, self.alice, self.keeper),
            *await self._shop(),
            *await self._wallet(wallet),
        ]

    async def honest(self, wallet: Wallet) -> None:
        """What must still work: a purchase, and an audit."""
        row = await self.town.buy(wallet, "card")
        assert isinstance(row.state, payment.Paid)
        assert await self.town.faults() == []

    # ---------------------------------------------------------------- pure

    def _codec(self) -> list[Target]:
        info = self.keeper.info(1).encode()
        samples = [info, AccountRequest(b"", 0).encode(), self.town.mint.announcement]
        kinds = message_types()

        def decode(data: bytes) -> None:
            kinds[data[0] % len(kinds) if data else 0].decode(data)

        topic = topics.bank_request(BANK, 3, "withdraw", "client").encode()
        return [
            Target("codec", samples, _pure(decode)),
            Target("topic", [topic], _pure(lambda data: topics.parse(data.decode(errors="replace")))),
        ]

    def _statements(self) -> list[Target]:
        town, fingerprint = self.town, self.town.address.fingerprint
        identity = town.mint.keys.identity
        (catalog,) = self.network.heard(topics.catalog(SHOP))[-1:]
        shop = open_catalog(SHOP, catalog.payload, town.keyset)
        shop_seed = town.shop.desk.keys.identity
        statement = Signed.decode(catalog.payload).statement

        def keyset_inside(data: bytes) -> None:
            signature = SignedKeyset.sign(identity, _Raw(data)).signature  # type: ignore[arg-type]
            open_keyset(BANK, fingerprint, SignedKeyset(data, signature).encode(), set(town.ring.ids))

        def catalog_inside(data: bytes) -> None:
            open_catalog(SHOP, Signed.make(shop_seed, Domain.CATALOG, _Raw(data)).encode(), town.keyset)  # type: ignore[arg-type]

        def totals_inside(data: bytes) -> None:
            open_totals(Signed.make(identity, Domain.TOTALS, _Raw(data)), town.keyset)  # type: ignore[arg-type]

        def proof_inside(data: bytes) -> None:
            open_proof(Signed.make(identity, Domain.PROOF, _Raw(data)), town.keyset.identity, BANK)  # type: ignore[arg-type]

        def payreq_inside(data: bytes) -> None:
            open_payreq(Signed.make(shop_seed, Domain.PAYREQ, _Raw(data)), shop, town.keyset, START)  # type: ignore[arg-type]

        encoded = town.keyset.encode()
        counted = tuple(DenominationTotal(key, 2, 1) for key in town.ring.ids)
        totals = Totals(BANK, town.keyset.hash, 3, START, counted).encode()
        proof = PaymentProof(BANK, self.keeper.info(1).encode(), b"verdict", START).encode()
        return [
            Target("totals signed", [totals], _pure(totals_inside)),
            Target("proof signed", [proof], _pure(proof_inside)),
            Target("keyset", [town.mint.announcement], _pure(lambda data: open_keyset(BANK, fingerprint, data))),
            Target("keyset signed", [encoded], _pure(keyset_inside)),
            Target("catalogue", [catalog.payload], _pure(lambda data: open_catalog(SHOP, data, town.keyset))),
            Target("catalogue signed", [statement], _pure(catalog_inside)),
            Target("payment request signed", [encoded, statement], _pure(payreq_inside)),
        ]

    # ---------------------------------------------------------------- agents

    def _judge(self, answer: Outgoing | None) -> str:
        return DROPPED if answer is None else TAKEN

    def _at_bank(self, caller: Caller, kind: str) -> Run:
        async def run(data: bytes) -> str:
            return REFUSED if (await caller.ask(kind, data[:INSIDE])).refusal else TAKEN

        return run

    async def _bank(self) -> list[Target]:
        town, alice, keeper = self.town, self.alice, self.keeper
        _, _, order = alice.order_coins(1)
        purse = await alice.withdraw(8)
        info = keeper.info(8, purse)
        deposit = keeper.deposit(info, purse)
        _, inquiry = keeper.inquiry(info, purse)
        bob = Caller(town, "bob", seed("bob's key"))  # whose account is taken over time and again
        await bob.open_account()
        look = AccountRequest(b"", 0)
        letter = Letter("account", bytes(16), 1, bytes(32), bob.key, look.encode())
        envelope = seal_letter(town.keyset.envelope_key, letter, bob.seed)
        inside = town.mint.keys.envelopes[town.keyset.envelope_key.key_id].open(envelope, "account")
        parcel_key = town.keyset.envelope_key
        parcel = town.mint.keys.envelopes[parcel_key.key_id].open(deposit.parcel, "parcel")

        async def raw(data: bytes) -> str:
            return self._judge(await town.bank.handle(Incoming(topics.bank_request(BANK, 0, "account", "x"), data)))

        async def sealed(data: bytes) -> str:
            return await raw(seal(town.keyset.envelope_key, "account", data[:INSIDE]))

        async def coins(data: bytes) -> str:
            fresh = keeper.info(8)
            body = DepositRequest(fresh.encode(), seal(parcel_key, "parcel", data[:INSIDE]))
            verdict = await keeper.verdict(body)
            return REFUSED if verdict.refusal else TAKEN

        bodies: dict[str, tuple[Caller, Message]] = {
            "account": (bob, look),
            "withdraw": (alice, order),
            "deposit": (keeper, deposit),
            "verdict": (alice, inquiry),
        }
        return [
            Target("bank: envelope", [envelope], raw),
            Target("bank: letter", [inside], sealed),
            Target("bank: parcel", [parcel], coins),
            *(
                Target(f"bank: {kind}", [body.encode()], self._at_bank(caller, kind))
                for kind, (caller, body) in bodies.items()
            ),
        ]

    async def _shop(self) -> list[Target]:
        town, buyer = self.town, Caller(self.town, "buyer")
        key = town.shop.desk.keys.envelope.public

        def at(topic: str) -> Run:
            async def run(data: bytes) -> str:
                return self._judge(await town.shop.handle(Incoming(topic, data)))

            return run

        def inside(kind: str) -> Run:
            async def run(data: bytes) -> str:
                asking = buyer.seal(kind, data[:INSIDE], to=key)
                sealed = await buyer.send_to_shop(asking)
                if sealed is None:
                    return DROPPED
                return REFUSED if buyer.open(asking, sealed, town.shop.desk.keys.public).refusal else TAKEN

            return run

        order = OrderRequest(BANK, (OrderLine("novel", 1),)).encode()
        info = buyer.info(13)
        pay = PayRequest(info.encode(), b"parcel", bytes(16)).encode()
        envelope = buyer.seal("order", order, to=key).envelope
        reply = topics.reply_to(topics.BankRequest(BANK, 0, "deposit", "bookshop-presence"), BANK)
        return [
            Target("shop: envelope", [envelope], at(topics.merchant_request(SHOP, "order", "x"))),
            Target("shop: order", [order], inside("order")),
            Target("shop: pay", [pay], inside("pay")),
            Target("shop: refund", [pay], inside("refund")),
            Target("shop: answer", [b"\1" + bytes(100)], at(reply)),
            Target("shop: keyset", [town.mint.announcement], at(topics.keys(BANK))),
        ]

    # ---------------------------------------------------------------- wallet

    async def _wallet(self, wallet: Wallet) -> list[Target]:
        bank, town = wallet.bank(), self.town
        await cash(wallet, 31)
        kinds = "/pay/", "/withdraw/", "/exchange/"
        self.network.loses = lambda message: any(kind in message.topic for kind in kinds)
        swapped = await self._exchange(wallet)
        assert isinstance(swapped.state, exchange.Requested)
        swap = swapped.state.swap
        asked = await withdrawing.withdraw(wallet, bank, Amount(1, "USD"), patience_ms=0)
        async with wallet.presence(town.address.broker) as requester:
            quote = await town.order(wallet, requester, "card")
            row = await paying.pay(wallet, quote, requester, patience_ms=0)
            assert isinstance(row.state, payment.Paying)
            assert isinstance(asked.state, withdrawal.Requested)
            sent = row.state.payment
            talk = paying.correspondence(wallet, bank, row, sent, requester)
            withdrawn = withdrawing.correspondence(wallet, bank, asked.state, requester)
            exchanged = exchanging.correspondence(wallet, bank, swapped.state, requester)
        self.network.loses = lambda _: False
        identity, shop = town.mint.keys.identity, town.shop.desk.keys.identity
        verdict = Signed(b"statement", bytes(64)).encode()
        spent = Exhibits((Evidence(bytes(32), swap.serials[0], bytes(32), bytes(64)),))
        reader = exchanged.readers[swap.request_id]
        refused = _answered(wallet, reader, identity, swap.request_id, swap.envelope, Refusal.ALREADY_SPENT)
        return [
            Target("wallet: spent before", [spent.encode()], refused),
            *(
                Target(
                    f"wallet: {name}",
                    [sample.encode()],
                    _answered(wallet, readers[request_id], signer, request_id, envelope),
                )
                for name, sample, readers, signer, request_id, envelope in (
                    ("receipt", PayAnswer(verdict, b""), talk.readers, shop, sent.pay_id, sent.pay),
                    ("refused", PayAnswer(b"", verdict), talk.readers, shop, sent.pay_id, sent.pay),
                    ("verdict", InquiryAnswer(verdict), talk.readers, identity, sent.inquiry_id, sent.inquiry),
                    ("signatures", _signatures(asked), withdrawn.readers, identity, asked.id, asked.state.envelope),
                    ("deposit", DepositAnswer(verdict, 0), talk.readers, identity, sent.inquiry_id, sent.inquiry),
                    ("issue", _issue(swap), exchanged.readers, identity, swap.request_id, swap.envelope),
                )
            ),
        ]

    async def _exchange(self, wallet: Wallet) -> ExchangeRow:
        """Ask for the smallest coins for the largest one, and hear nothing."""
        bank, ring = wallet.bank(), self.town.ring
        coins = await wallet.store.coins(BANK, "USD")
        largest = max(coins, key=lambda held: held.value)
        commission = bank.keyset.tariff.exchange.charge(largest.value)
        outputs = [ring.current("USD", START)[1]] * (largest.value - commission)
        inputs = exchanging.Inputs(own=[largest])
        return await exchanging.exchange(wallet, bank, inputs, outputs, commission, "change", patience_ms=0)


class _Raw(NamedTuple):
    """Bytes that stand where a message should."""

    data: bytes

    def encode(self) -> bytes:
        return self.data


def _signatures(asked: ExchangeRow) -> Message:
    assert isinstance(asked.state, withdrawal.Requested)
    coins = tuple(BlindSignature(one, bytes(256)) for one in asked.state.denominations)
    return WithdrawAnswer(coins, asked.note.amount, asked.note.commission)


def _issue(swap: exchange.Swap) -> Message:
    return Issue(tuple(BlindSignature(one, bytes(256)) for one in swap.outputs))


def _answered(wallet: Wallet, read: Read, signer: bytes, request_id: bytes, envelope: bytes, refusal: str = "") -> Run:
    """Answer as the true bank or merchant would, but with these bytes."""
    key, hashed = wallet.root.answer_key(request_id), request_hash(envelope)

    async def run(data: bytes) -> str:
        body = Answer(START, refusal, "", data[:INSIDE])
        try:
            event = await read(seal_answer(signer, key, request_id, hashed, body))
        except PeerError:
            return REFUSED
        return DROPPED if event is None else TAKEN

    return run


@asynccontextmanager
async def fuzzing_range(folder: Path) -> AsyncIterator[tuple[Range, Wallet, list[Target]]]:
    """A town with a bank, a shop, and everything that is a target in it."""
    network = Network()
    town = Town(folder, simulated(network), VirtualClock(START))
    await town.found()
    try:
        await town.start_bank()
        await town.start_shop()
        alice = await client(town, amount=10**9)
        keeper = await shopkeeper(town)
        async with town.open_wallet("wallet") as wallet:
            await town.customer(wallet, "owner", 10**6)
            under_fire = Range(town, network, alice, keeper)
            targets = await under_fire.targets(wallet)
            yield under_fire, wallet, targets
    finally:
        await town.close()
