"""The wallet as a target: what it reads of banks, merchants and other wallets."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, cast

import msgspec

from agents.client import exchange as exchanging
from agents.client import pay as paying
from agents.client import redeem as redeeming
from agents.client import refund as refunding
from agents.client import withdraw as withdrawing
from agents.client.drive import Read
from agents.client.inbox import receive
from agents.client.offer import open_offer
from agents.client.pay import Quote
from agents.client.prove import prove
from agents.client.recover import _find_withdrawals
from agents.client.store import ExchangeRow, HeldCoin
from agents.client.stored import fetch, issued, take_in
from agents.client.verify import judge, quiet
from agents.client.wallet import Bank, Wallet, WalletError
from agents.keysets import accept
from agents.requester import NobodyAnswers, Requester
from broker.address import BrokerUrl
from protocol import topics
from protocol.answer import Answer, seal_answer
from protocol.codec import Message
from protocol.coins import Evidence
from protocol.envelope import request_hash
from protocol.errors import PeerError
from protocol.exchange import Issue, RefundAnswer
from protocol.messages import (
    AccountAnswer,
    BlindSignature,
    Exhibits,
    InquiryAnswer,
    PayAnswer,
    PaymentInfo,
    Receipt,
    Signed,
    Status,
    Verdict,
    WithdrawAnswer,
)
from protocol.money import Amount
from protocol.payment_link import PaymentLink
from protocol.proof import PaymentProof, ProofAnswer
from protocol.recovery import CheckAnswer, FetchAnswer, RecoverAnswer, RedeemAnswer, StoredAnswer, seal_spending
from protocol.refusals import Refusal
from protocol.signatures import Domain
from protocol.text import write_word
from protocol.token import Token
from protocol.wallet import exchange, payment, redemption, refund, withdrawal
from tests.agents.byhand import Purse
from tests.agents.world import BANK, SHOP, START, Town, cash, root_of
from tests.simulation.entropy import SeededEntropy
from tests.simulation.network import Network
from tests.world import seed

from .plain import raw
from .target import DROPPED, INSIDE, REFUSED, TAKEN, Run, Target


class Told(Wallet):
    """A wallet that hears, whatever it asks, what it is told; no network is there."""

    board: dict[str, bytes]
    told: bytes = b""

    async def ask_bank(self, bank: Bank, requester: Requester, kind: str, body: Message) -> Answer:
        return Answer(START, "", "", self.told)

    async def ask_anonymously(self, bank: Bank, kind: str, body: Message) -> Answer:
        return Answer(START, "", "", self.told)

    @asynccontextmanager
    async def presence(self, broker: BrokerUrl) -> AsyncIterator[Requester]:
        yield cast("Requester", Board(self))


class Board:
    """What is announced, in the place of a requester: what nothing is known of is what the wallet is told."""

    def __init__(self, wallet: Told, status: bytes | None = None) -> None:
        self._wallet = wallet
        self._status = status

    async def retained(self, topic: str, patience: float = 0) -> bytes:
        if topic == topics.status(SHOP) and self._status is not None:
            return self._status
        return self._wallet.board.get(topic, self._wallet.told)

    async def send(self, send: object, lanes: int) -> None:
        pass

    def expect(self, request_id: bytes, take: object) -> None:
        pass

    def forget(self, request_id: bytes) -> None:
        pass


class Way(NamedTuple):
    """A way that bytes take into the wallet: what is good there, and where they are read."""

    name: str
    good: Message
    read: Read
    signer: bytes
    request_id: bytes
    envelope: bytes


async def wallet_targets(town: Town, network: Network, wallet: Wallet, told: Told, purse: Purse) -> list[Target]:
    """The targets. `wallet` is a customer's, `told` another's with an account; `purse` holds coins of neither."""
    await cash(wallet, 31)
    kinds = "/pay/", "/withdraw/", "/exchange/"
    network.loses = lambda message: any(kind in message.topic for kind in kinds)
    swapped = await _exchange(town, wallet)
    asked = await withdrawing.withdraw(wallet, wallet.bank(), Amount(1, "USD"), patience_ms=0)
    async with wallet.presence(town.address.broker) as requester:
        quote = await town.order(wallet, requester, "card")
        paid = await paying.pay(wallet, quote, requester, patience_ms=0)
        ways = [
            *_money(town, wallet, swapped, asked, requester),
            *_purchase(town, wallet, paid, requester),
            *_redemption(town, wallet, purse, requester),
            *_refund(town, wallet, paid, requester),
        ]
    network.loses = lambda _: False
    assert isinstance(swapped.state, exchange.Requested)
    swap, coin = swapped.state.swap, purse.coins[0]
    spent = Exhibits((Evidence(bytes(32), swap.serials[0], bytes(32), bytes(64)),))
    reader = exchanging.correspondence(wallet, wallet.bank(), swapped.state, requester).readers[swap.request_id]
    identity = town.mint.keys.identity
    refused = _answered(wallet, reader, identity, swap.request_id, swap.envelope, Refusal.ALREADY_SPENT)
    held = HeldCoin(coin, 8, bytes(16), 0)
    return [
        Target("wallet: spent before", [spent.encode()], refused),
        *(_target(wallet, way) for way in ways),
        *(_collected(town, wallet, way) for way in ways if way.name == "refund"),
        *_questions(town, told, held, paid),
        *_heard(town, told, purse, quote),
    ]


def _target(wallet: Wallet, way: Way) -> Target:
    run = _answered(wallet, way.read, way.signer, way.request_id, way.envelope)
    return Target(f"wallet: {way.name}", [way.good.encode()], run)


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


def _money(town: Town, wallet: Wallet, swapped: ExchangeRow, asked: ExchangeRow, requester: Requester) -> Iterator[Way]:
    """Coins that the bank signs."""
    bank = wallet.bank()
    identity = town.mint.keys.identity
    assert isinstance(asked.state, withdrawal.Requested)
    assert isinstance(swapped.state, exchange.Requested)
    swap, note = swapped.state.swap, asked.note
    withdrawn = withdrawing.correspondence(wallet, bank, asked.state, requester).readers
    exchanged = exchanging.correspondence(wallet, bank, swapped.state, requester).readers
    signatures = WithdrawAnswer(_signatures(asked.state.denominations), note.amount, note.commission)
    issue = Issue(_signatures(swap.outputs))
    yield Way("signatures", signatures, withdrawn[asked.id], identity, asked.id, asked.state.envelope)
    yield Way("issue", issue, exchanged[swap.request_id], identity, swap.request_id, swap.envelope)


def _signatures(denominations: Sequence[bytes]) -> tuple[BlindSignature, ...]:
    return tuple(BlindSignature(one, bytes(256)) for one in denominations)


def _purchase(town: Town, wallet: Wallet, row: ExchangeRow, requester: Requester) -> Iterator[Way]:
    """What merchant and bank say of a payment."""
    assert isinstance(row.state, payment.Paying)
    identity, shop, sent = town.mint.keys.identity, town.shop.desk.keys.identity, row.state.payment
    readers = paying.correspondence(wallet, wallet.bank(), row, sent, requester).readers
    about = PaymentInfo.decode(row.note.info)
    said = Verdict(BANK, sent.digest, about.payment_id, about.account, about.currency, about.amount, "", START, b"")
    accepted = Signed.make(identity, Domain.VERDICT, said).encode()
    declined = msgspec.structs.replace(said, refusal=Refusal.ALREADY_SPENT, evidence=bytes(200))
    refused = Signed.make(identity, Domain.VERDICT, declined).encode()
    receipt = Signed.make(shop, Domain.RECEIPT, Receipt(sent.digest, accepted, "the goods", START)).encode()
    answers = {
        "receipt": PayAnswer(receipt, b""),
        "refused": PayAnswer(b"", refused),
        "verdict": InquiryAnswer(accepted),
        "verdict against it": InquiryAnswer(refused),
    }
    for name, good in answers.items():
        if isinstance(good, PayAnswer):
            yield Way(name, good, readers[sent.pay_id], shop, sent.pay_id, sent.pay)
        else:
            yield Way(name, good, readers[sent.inquiry_id], identity, sent.inquiry_id, sent.inquiry)


def _redemption(town: Town, wallet: Wallet, purse: Purse, requester: Requester) -> Iterator[Way]:
    number, envelope = seed("redemption")[:16], b"a redemption"
    serials = tuple(coin.serial for coin in purse.coins)
    asked = redemption.Redemption(
        BANK, number, seed("digest"), envelope, serials, unverified=False, amount=8, commission=0
    )
    readers = redeeming.correspondence(wallet, wallet.bank(), redemption.Requested(asked, 1), requester).readers
    yield Way("redeemed", RedeemAnswer(8, 0), readers[number], town.mint.keys.identity, number, envelope)


def _refund(town: Town, wallet: Wallet, paid: ExchangeRow, requester: Requester) -> Iterator[Way]:
    """A refund's answer, by way of the merchant and from the bank; and what stands inside, sealed for the buyer."""
    identity, shop = town.mint.keys.identity, town.shop.desk.keys.identity
    numbers = [seed(name)[:16] for name in ("ticket", "refund", "fetch")]
    ticket, asking, fetching = (name.encode() for name in ("a ticket", "a refund", "a fetch"))
    outputs = (town.ring.current("USD", START)[1],)
    claim = refund.Claim(SHOP, BANK, numbers[0], ticket, outputs, START + 1, numbers[1], asking, numbers[2], fetching)
    row = paid._replace(kind="refund", state=refund.Requested(claim, 1))
    readers = refunding.correspondence(wallet, wallet.bank(), row, requester).readers
    from_merchant, from_bank = readers[numbers[1]], readers[numbers[2]]
    issue = Answer(START, "", "", Issue(_signatures(outputs)).encode())
    key, hashed = wallet.root.answer_key(numbers[0]), request_hash(ticket)
    sealed = seal_answer(identity, key, numbers[0], hashed, issue)
    stored = StoredAnswer(numbers[0], hashed, sealed)

    yield Way("refund", RefundAnswer(1, sealed), from_merchant, shop, numbers[1], asking)
    yield Way("refund fetched", FetchAnswer((stored,)), from_bank, identity, numbers[2], fetching)


def _collected(town: Town, wallet: Wallet, way: Way) -> Target:
    """Bytes as the bank's answer to a ticket, which the merchant passes on."""
    number, ticket = seed("ticket")[:16], b"a ticket"
    key, passing = wallet.root.answer_key(number), wallet.root.answer_key(way.request_id)
    issue = Issue(_signatures([town.ring.current("USD", START)[1]]))

    async def run(data: bytes) -> str:
        answer = Answer(START, "", "", data[:INSIDE])
        told = seal_answer(town.mint.keys.identity, key, number, request_hash(ticket), answer)
        passed = Answer(START, "", "", RefundAnswer(1, told).encode())
        try:
            await way.read(seal_answer(way.signer, passing, way.request_id, request_hash(way.envelope), passed))
        except PeerError:
            return REFUSED
        return TAKEN

    return Target("wallet: refund, inside", [issue.encode()], run)


def _telling(told: Told, ask: Callable[[], Awaitable[object]], *expected: type[Exception]) -> Run:
    """Return a run of bytes as what the wallet is told when it asks."""

    async def run(data: bytes) -> str:
        told.told = data
        try:
            await ask()
        except expected:
            return REFUSED
        return TAKEN

    return run


def _questions(town: Town, told: Told, held: HeldCoin, paid: ExchangeRow) -> list[Target]:
    """What banks answer to questions."""
    bank, identity = told.bank(), town.mint.keys.identity
    stored = StoredAnswer(bytes(16), bytes(32), b"sealed")
    evidence = Evidence(held.coin.denomination, held.coin.serial, bytes(32), bytes(64))
    checked = CheckAnswer((seal_spending(evidence),), complete=True)
    about = PaymentInfo.decode(paid.note.info)
    said = Verdict(BANK, about.digest, about.payment_id, about.account, about.currency, about.amount, "", START, b"")
    stated = PaymentProof(BANK, paid.note.info, Signed.make(identity, Domain.VERDICT, said).encode(), START)
    proof = ProofAnswer(Signed.make(identity, Domain.PROOF, stated).encode())
    account = AccountAnswer(1001, "client", "Told", "USD", 5, b"", 1)

    async def look() -> None:
        found = await fetch(told, bank, bytes(16))
        if found is None or (await take_in(told, bank, found, issued)).wrong:
            raise PeerError(Refusal.MALFORMED)

    return [
        Target("wallet: check", [checked.encode()], _telling(told, lambda: judge(told, bank, [held]), PeerError)),
        Target("wallet: fetch", [FetchAnswer((stored,)).encode()], _telling(told, look, PeerError)),
        Target(
            "wallet: recover",
            [RecoverAnswer((stored,), 1, 0).encode()],
            _telling(told, lambda: _find_withdrawals(told, bank, quiet), PeerError),
        ),
        Target("wallet: proof", [proof.encode()], _telling(told, lambda: prove(told, paid, ()), PeerError)),
        Target(
            "wallet: account",
            [account.encode()],
            _telling(told, lambda: told.register(bank.address, b""), PeerError, WalletError),
        ),
    ]


def _heard(town: Town, told: Told, purse: Purse, quote: Quote) -> list[Target]:
    """What is announced, pasted and handed over."""
    bank, fingerprint = told.bank(), bytes.fromhex(town.address.fingerprint)
    broker = town.address.broker.public
    signed = Signed.make(town.shop.desk.keys.identity, Domain.PAYREQ, quote.payreq).encode()
    link = PaymentLink.of(SHOP, BANK, fingerprint, broker, signed)
    token = Token.of(BANK, fingerprint, broker, "USD", "", zip(purse.coins, purse.seeds, strict=True))
    opening = Status(open=True, lanes=0).encode()
    board, opened = cast("Requester", Board(told)), cast("Requester", Board(told, status=opening))

    async def hear() -> None:
        await accept(bank.address, told.told, bank.ring)

    async def follow() -> None:
        await open_offer(told, PaymentLink.parse(str(link)), board)

    async def click() -> None:
        await open_offer(told, PaymentLink.parse(write_word("WEB+ECASH:PAY/", raw(told.told[:INSIDE]))), opened)

    async def take() -> None:
        await receive(told, bank, Token.read(told.told), patience_ms=0)

    wrong = PeerError, WalletError, NobodyAnswers
    return [
        Target("wallet: keyset", [town.mint.announcement], _telling(told, hear, PeerError)),
        Target("wallet: status", [opening], _telling(told, follow, *wrong)),
        Target("wallet: link", [link.encode()], _telling(told, click, *wrong)),
        Target("wallet: token", [token.encode()], _telling(told, take, *wrong)),
    ]


async def _exchange(town: Town, wallet: Wallet) -> ExchangeRow:
    """Ask for the smallest coins for the largest one, and hear nothing."""
    bank, ring = wallet.bank(), town.ring
    coins = await wallet.store.coins(BANK, "USD")
    largest = max(coins, key=lambda held: held.value)
    commission = bank.keyset.tariff.exchange.charge(largest.value)
    outputs = [ring.current("USD", START)[1]] * (largest.value - commission)
    inputs = exchanging.Inputs(own=[largest])
    return await exchanging.exchange(wallet, bank, inputs, outputs, commission, "change", patience_ms=0)


@asynccontextmanager
async def told_wallet(town: Town, catalog: bytes) -> AsyncIterator[Told]:
    """Open a wallet with an account, which hears of keyset and catalogue, and for the rest what it is told."""
    async with town.open_wallet("told") as opened:
        await town.customer(opened, "told", 0)
        told = Told(opened.store, root_of("told"), opened._link, town.clock, SeededEntropy("told"))
        told.board = {topics.keys(BANK): town.mint.announcement, topics.catalog(SHOP): catalog}
        await told.start()
        yield told
