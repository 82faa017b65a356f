"""Capabilities that no test of a single part shows, from one end to the other."""

import hashlib
import hmac
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from agents.bank.home import sign_keyset
from agents.client import pay as paying
from agents.client.prove import secrets_of
from agents.client.recover import recover, settle_in
from agents.client.withdraw import WEEK_MS
from protocol.coins import check_coin
from protocol.commission import Commission
from protocol.envelope import EnvelopePrivateKey, Letter, open_letter
from protocol.errors import PeerError
from protocol.keyset import KeyRing
from protocol.messages import DepositRequest, Parcel, PaymentInfo, WithdrawRequest
from protocol.recovery import KEPT_WITHDRAWALS
from protocol.refusals import Refusal
from protocol.signatures import public_key
from protocol.wallet import payment
from tests.agents.byhand import client, shopkeeper
from tests.agents.world import BANK, Town, cash, simulated, states
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network

ALICE = 1002
"""The number of the account that is opened after the shop's."""


def bank_key(town: Town) -> EnvelopePrivateKey:
    (key,) = town.mint.keys.envelopes.values()
    return key


def read(town: Town, network: Network, kind: str) -> Letter:
    """The only request of a kind that the bank was sent, which nobody but the bank can open."""
    (sent,) = network.heard(f"ecash/v1/{BANK}/+/{kind}/+")
    with pytest.raises(PeerError):
        open_letter(town.shop.desk.keys.envelope, sent.payload, kind)
    return open_letter(bank_key(town), sent.payload, kind)


async def test_one_request_signed_and_sealed_brings_coins_of_many_values(town: Town, network: Network) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 31)
        holder = public_key(alice.root.account(town.keyset.identity))
        coins = [one.coin for one in await alice.store.coins(BANK, "USD")]
    letter = read(town, network, "withdraw")
    asked = WithdrawRequest.decode(letter.body).coins
    assert letter.sender == holder
    assert Counter(one.denomination for one in asked) == Counter(coin.denomination for coin in coins)
    assert len({coin.denomination for coin in coins}) >= 4
    assert sum(town.ring.denomination(coin.denomination).value for coin in coins) == 31
    for coin in coins:
        check_coin(town.ring.key(coin.denomination), coin)
        assert coin.serial not in letter.encode()


async def test_a_payment_request_names_currency_amount_time_bank_account_and_order(town: Town) -> None:
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        asked = (await town.order(alice, requester)).payreq
    assert (asked.currency, asked.amount, asked.timestamp) == ("USD", 13, town.clock.now())
    assert (asked.bank, asked.account) == (BANK, town.shop_number)
    assert asked.order == ("1 × A novel of manners",)


async def test_a_deposit_brings_payment_information_and_coins_that_the_merchant_cannot_open(
    town: Town, network: Network
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        assert isinstance((await town.buy(alice)).state, payment.Paid)
    letter = read(town, network, "deposit")
    request = DepositRequest.decode(letter.body)
    info = PaymentInfo.decode(request.info)
    assert letter.sender == town.shop.desk.keys.public
    assert (info.bank, info.account, info.amount, info.currency) == (BANK, town.shop_number, 13, "USD")
    with pytest.raises(PeerError):
        town.shop.desk.keys.envelope.open(request.parcel, "parcel")
    parcel = Parcel.decode(bank_key(town).open(request.parcel, "parcel"))
    assert sum(town.ring.denomination(spent.coin.denomination).value for spent in parcel.coins) == 13


async def test_of_order_and_payer_code_the_bank_has_hashes_and_the_names_of_their_functions(town: Town) -> None:
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        quote = await town.order(alice, requester)
        row = await paying.pay(alice, quote, requester, code="Bluesky")
        secrets = secrets_of(alice, row)
    (paid,) = await town.books.payments(secrets.payment_id)
    info = PaymentInfo.decode(paid.info)
    code = b"ecash/v1 payer code\0sha-256\0" + secrets.salt + secrets.payment_id + b"Bluesky"
    assert (info.payer_function, info.payer_digest) == ("sha-256", hashlib.sha256(code).digest())
    (line,) = quote.payreq.order
    cover = hmac.digest(quote.payreq.salt, b"ecash/v1 order line\0" + bytes(4), "sha256")
    lines = b"ecash/v1 order\0" + hashlib.sha256(cover + line.encode()).digest()
    assert (info.order_function, info.order_digest) == ("sha-256", hashlib.sha256(lines).digest())
    books = b"".join(path.read_bytes() for path in town.folder.glob("books.db*"))
    assert paid.info in books, "what is searched is what the bank keeps"
    for secret in (b"Bluesky", secrets.salt, line.encode(), b"novel", quote.payreq.salt):
        assert secret not in books


@pytest.fixture
async def free_bank(tmp_path: Path, clock: VirtualClock, network: Network) -> AsyncIterator[Town]:
    """A town whose bank takes no commission on deposits, and many coins at once."""
    town = Town(tmp_path, simulated(network), clock)
    limits = msgspec.structs.replace(town.keyset.limits, max_coins=100)
    tariff = msgspec.structs.replace(town.keyset.tariff, deposit=Commission(0, 0, 0, 0))
    town.keyset = msgspec.structs.replace(town.keyset, limits=limits, tariff=tariff)
    town.ring = KeyRing(town.keyset)
    announcement = sign_keyset(town.mint.keys.identity, town.keyset)
    town.mint = town.mint._replace(keyset=town.keyset, announcement=announcement)
    await town.found()
    yield town
    await town.close()


async def test_10_dollars_in_coins_make_100_of_a_merchants_90_and_only_once(free_bank: Town) -> None:
    keeper, alice = await shopkeeper(free_bank), await client(free_bank, 20_00)
    await free_bank.books.credit(free_bank.shop_number, 90_00, "takings")
    purse = await alice.withdraw(*[16] * 62, 8)
    assert (await keeper.verdict(keeper.paying(10_00, purse))).refusal == ""
    assert await free_bank.books.balance(free_bank.shop_number) == 100_00
    assert (await keeper.verdict(keeper.paying(10_00, purse))).refusal == Refusal.ALREADY_SPENT
    assert await free_bank.books.balance(free_bank.shop_number) == 100_00
    assert await free_bank.faults() == []


async def yes(question: str) -> bool:
    return True


async def test_the_last_16_withdrawals_come_back_and_an_older_one_while_a_coin_of_it_is_left(
    town: Town, clock: VirtualClock
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        rows = [await cash(alice, 13)]
        assert isinstance((await town.buy(alice)).state, payment.Paid)
        assert await states(alice) == {}, "the first withdrawal is used up"
        for _ in range(KEPT_WITHDRAWALS + 2):
            clock.advance(9 * WEEK_MS)  # the bank is told of it 2 to 8 weeks after it was seen to be used up
            rows.append(await cash(alice, 1))
    first = await town.books.withdrawals(ALICE, 0)
    rest = await town.books.withdrawals(ALICE, first.next)
    kept = [row.request_id for row in (*first.withdrawals, *rest.withdrawals)]
    assert kept == [row.id for row in rows[1:]], "18: the last 16, and two before them"
    before = await town.books.balance(ALICE)
    async with town.open_wallet("second", seed="alice") as wallet:
        await settle_in(wallet, town.address, yes)
        report = await recover(wallet, wallet.bank(), gap=1)
    assert (report.withdrawals.answers, report.credited) == (KEPT_WITHDRAWALS + 2, {"USD": KEPT_WITHDRAWALS + 2})
    assert await town.books.balance(ALICE) == before + KEPT_WITHDRAWALS + 2
    assert await town.faults() == []
