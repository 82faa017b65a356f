"""A day in town: everything that agents do with each other, done once, so that a test can look at all of it."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from agents.bank.store import DestinationRow
from agents.client import pay as paying
from agents.client.exchange import Inputs, exchange
from agents.client.inbox import receive
from agents.client.prove import prove
from agents.client.recover import recover, settle_in
from agents.client.redeem import redeem
from agents.client.refund import collect
from agents.client.store import ExchangeRow, HeldCoin
from agents.client.tending import tend
from agents.client.transfer import Gift, give, look, token_of
from agents.client.verify import verify
from agents.client.wallet import Wallet
from agents.merchant.desk import Desk
from agents.merchant.home import Stock
from agents.merchant.office import Office
from broker.address import BrokerUrl
from broker.port import Link
from protocol import topics
from protocol.machine import Send
from protocol.messages import PaymentInfo, Payreq
from protocol.money import Amount
from protocol.refusals import Refusal
from protocol.wallet import payment
from tests.agents.world import BANK, Town, cash

CODE: Final = "Bluesky over the harbour"
BANK_KINDS: Final = frozenset(topics.BANK_KINDS)


class Day(NamedTuple):
    """What was agreed on, every coin that somebody had, and what else nobody should read or hear."""

    agreed: list[Payreq]
    coins: list[tuple[bytes, bytes]]
    secrets: dict[str, bytes]


async def a_day(town: Town) -> Day:
    """Let Alice and Bob withdraw, pay, change, be refunded, give, prove, redeem, tend, recover; pay the shop out."""
    agreed, coins, secrets = list[Payreq](), list[tuple[bytes, bytes]](), dict[str, bytes]()
    async with town.open_wallet("alice") as alice, town.open_wallet("bob") as bob:
        for name, wallet in (("alice", alice), ("bob", bob)):
            await town.customer(wallet, name, 200)
            await cash(wallet, 40)
        for wallet in (alice, bob):
            bought = await buy(town, wallet, agreed)
        await refund(town, bob, bought)
        await prove(bob, bought, {0})
        await swap(alice)
        token = await hand_over(alice, bob)
        await redeem(alice, alice.bank(), (await held(alice))[:2], unverified=False)
        await ask_for_the_verdict(town, bob, agreed)
        await verify(bob, bob.bank())
        await tend(bob, bob.bank())
        await pay_out(town)
        for name, wallet in (("alice", alice), ("bob", bob)):
            coins += await coins_of(wallet)
            secrets |= await secrets_of(name, wallet)
    async with town.open_wallet("second", seed="alice") as second:
        await settle_in(second, town.address, yes)
        await recover(second, second.bank(), gap=3)
        coins += await coins_of(second)
    return Day(agreed, coins, secrets | {"the token": token.encode(), "the code": CODE.encode()})


async def yes(_: object) -> bool:
    return True


async def held(wallet: Wallet) -> list[HeldCoin]:
    return await wallet.store.coins(BANK, "USD")


async def coins_of(wallet: Wallet) -> list[tuple[bytes, bytes]]:
    """Serial number and signature of every coin that was ever in a wallet."""
    return await wallet.store.read(lambda db: list(db.execute("SELECT serial, signature FROM coin")))


async def secrets_of(name: str, wallet: Wallet) -> dict[str, bytes]:
    """What only this wallet knows."""
    found = {f"{name}'s account": wallet.root.account(wallet.bank().keyset.identity)}
    for row in await wallet.store.exchanges():
        what = f"of {name}'s {row.kind} {row.id.hex()[:6]}"
        found[f"the answer key {what}"] = wallet.root.answer_key(row.id)
        found[f"a coin's key {what}"] = wallet.root.coin(row.id, 0)
        found[f"the payer code {what}"] = wallet.root.payer_code(row.id).encode()
    return found


async def buy(town: Town, wallet: Wallet, agreed: list[Payreq], sku: str = "novel") -> ExchangeRow:
    """Order and pay, with a code of one's own."""
    async with wallet.presence(town.address.broker) as requester:
        quote = await town.order(wallet, requester, sku)
        agreed.append(quote.payreq)
        row = await paying.pay(wallet, quote, requester, code=CODE)
    assert isinstance(row.state, payment.Paid)
    return row


async def refund(town: Town, wallet: Wallet, paid: ExchangeRow, amount: int = 3) -> None:
    """The shop grants a refund; the buyer collects it."""
    sale = next(one for one in await town.sales.sales() if one.payment_id == agreed_on(paid))
    await town.sales.grant(sale.payment_id, amount, town.clock.now())
    assert not (await collect(wallet, paid)).open


def agreed_on(paid: ExchangeRow) -> bytes:
    """The payment id of a payment."""
    assert isinstance(paid.state, payment.Paid)
    return PaymentInfo.decode(paid.note.info).payment_id


async def swap(wallet: Wallet) -> ExchangeRow:
    """Exchange some coins for coins like them."""
    coins = (await held(wallet))[:2]
    outputs: Sequence[bytes] = [one.coin.denomination for one in coins]
    return await exchange(wallet, wallet.bank(), Inputs(coins), outputs, 0, "tidy")


async def hand_over(giver: Wallet, receiver: Wallet) -> str:
    """Give coins as a text, which is returned."""
    row = await give(giver, giver.bank(), Gift(Amount(5, "USD"), "for the tea"))
    token = await token_of(giver, row)
    await receive(receiver, receiver.bank(), token)
    await look(giver, row)
    return str(token)


async def ask_for_the_verdict(town: Town, wallet: Wallet, agreed: list[Payreq]) -> None:
    """Pay, wait for nothing, and send the inquiry that a wallet keeps for when the receipt is lost."""
    async with wallet.presence(town.address.broker) as requester:
        quote = await town.order(wallet, requester, "card")
        agreed.append(quote.payreq)
        row = await paying.pay(wallet, quote, requester, code=CODE, patience_ms=0)
        assert isinstance(row.state, payment.Paying)
        wanted = row.state.payment
        send = Send(BANK, "verdict", wanted.inquiry_id, wanted.inquiry, 0)
        refusal: str = Refusal.PENDING
        while refusal == Refusal.PENDING:
            sealed = await requester.ask(wanted.inquiry_id, lambda _: requester.send(send, 4), [10_000])
            assert sealed is not None
            refusal = wallet.open_from_bank(wallet.bank(), wanted.inquiry_id, wanted.inquiry, sealed).refusal
        assert refusal == ""


async def pay_out(town: Town, amount: str = "0.10") -> None:
    """The shop moves money to an account at another bank."""
    await town.books.set_destination(town.shop_number, DestinationRow("011000015", "42", "checking", "The Bookshop"))
    shop = town.shop.desk
    desk = Desk(shop.settings, shop.keys, Stock(), town.sales, town.clock, town.entropy("the office"))

    def connect(_: BrokerUrl, client: str) -> Link:
        return town.connect(client, persistent=False)

    office = Office(desk, connect)
    await office.pay_out(BANK, amount)
    await office.payouts(BANK)
