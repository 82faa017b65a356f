"""Paying by a shop's link: look at what it asks for, confirm once, and see the receipt."""

from collections import OrderedDict
from typing import Any, Final
from urllib.parse import quote as quoted

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from broker.port import LinkError
from protocol.errors import PeerError
from protocol.money import Amount
from protocol.payment_link import PaymentLink
from protocol.refusals import TABLE, Refusal

from ...requester import NobodyAnswers
from ...web.gate import Visit
from ...web.pages import Next
from ..offer import bank_for, open_offer, pay_once, standing_payment
from ..pay import Quote, Shortfall, next_step
from ..steps import before_paying, charged_before
from ..store import ExchangeRow
from ..wallet import Bank, Wallet, WalletError
from ..withdraw import covered
from .house import House
from .telling import EXPECTED, problem_of

PATIENCE_MS: Final = 8_000
"""How long a payment may use the wallet before it goes on in the background, when its time comes."""
_KEPT: Final = 16
_AWAY: Final = "The {} does not answer at the moment. Nothing was paid: try again in a while."
_PAY: Final = Next("/pay", "Try another link")


def routes(house: House) -> list[BaseRoute]:
    """Return the pages that a payment link leads to."""
    payments = _Payments(house)
    return [
        Route("/pay", house.page(payments.show), methods=["GET"]),
        Route("/pay", house.page(payments.pay), methods=["POST"]),
        Route("/pay/{sale}", house.page(payments.wait), methods=["GET"]),
    ]


class _Wrong(Exception):
    """A link that cannot be paid, and what its page says."""

    def __init__(self, status: int, heading: str, what: str, onward: Next = _PAY) -> None:
        super().__init__(what)
        self.status, self.heading, self.what, self.onward = status, heading, what, onward


class _Payments:
    """Checked offers are kept between looking and paying, so that paying needs no visits any more.

    They are kept by the whole link: two links for one sale may ask for different sums.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._offers: OrderedDict[PaymentLink, Quote] = OrderedDict()
        house.vault.at_lock(self._offers.clear)

    async def show(self, visit: Visit) -> Response:
        """Show what a link asks for. Nothing is paid by that, whoever has sent the browser here."""
        text = visit.request.query_params.get("link", "")
        if not text:
            return self._house.pages.show(visit.request, "pay_ask.html", visit.session, title="Pay")
        try:
            link = _read(text)
            before = await self._standing(link.unverified.payment_id)
            if before is not None:
                return visit.onward(_history(before), _again(before), "info")
            return await self._offer(visit, link)
        except _Wrong as wrong:
            told = (wrong.status, wrong.heading, wrong.what)
            return self._house.pages.problem(visit.request, *told, visit.session, wrong.onward)

    async def _offer(self, visit: Visit, link: PaymentLink) -> Response:
        house = self._house
        async with house.vault.wallet() as wallet:
            quote = await self._checked(wallet, link)
            step = await next_step(wallet, quote)
            in_hand = await _in_hand(wallet, quote)
            if isinstance(step, Shortfall):
                _check_account(quote, in_hand)
                step = await _affordable(wallet, quote, step, in_hand)
        self._keep(link, quote)
        context: dict[str, Any] = {
            "link": str(link),
            "shop": quote.shop.certificate.name,
            "bank": quote.bank.row.name,
            "order": quote.payreq.order,
            "amount": quote.amount,
            "charge": charged_before(quote, step),
            "before": before_paying(quote, step),
            "short": isinstance(step, Shortfall),
            "in_hand": in_hand,
            "seconds": max(0, (quote.payreq.expires - house.clock.now()) // 1000),
        }
        title = f"Pay {quote.shop.certificate.name}"
        return house.pages.show(visit.request, "pay.html", visit.session, title=title, **context)

    async def _checked(self, wallet: Wallet, link: PaymentLink) -> Quote:
        """Open the offer of a link, and say in words for people what keeps it from being paid.

        Raises:
            _Wrong: if it cannot be paid now, or ever.
        """
        now, asked = wallet.clock.now(), link.unverified
        if asked.expires <= now:
            raise _expired()
        bank = _bank_of(wallet, link)
        try:
            async with wallet.presence(bank.address.broker) as requester:
                try:
                    await wallet.refresh(bank.address, requester)
                except NobodyAnswers as error:
                    raise _Wrong(504, "The bank is away", _AWAY.format("bank"), _again_at(link)) from error
                return await open_offer(wallet, link, requester)
        except NobodyAnswers as error:
            raise _Wrong(504, "The shop is away", _AWAY.format("shop"), _again_at(link)) from error
        except LinkError as error:
            told = f"The way to bank and shop is broken ({error}). Nothing was paid. Try again in a moment."
            raise _Wrong(503, "No connection", told, _again_at(link)) from error
        except PeerError as error:
            raise _distrust(error, link) from error

    def _keep(self, link: PaymentLink, quote: Quote) -> None:
        self._offers[link] = quote
        self._offers.move_to_end(link)
        while len(self._offers) > _KEPT:
            self._offers.popitem(last=False)

    async def pay(self, visit: Visit) -> Response:
        """Pay once, however often the form is sent, and go on to the receipt."""
        try:
            link = _read(visit.form.get("link", ""))
        except _Wrong as wrong:
            return visit.onward("/pay", f"{wrong.heading}. {wrong.what}", "bad")
        sale, code = link.unverified.payment_id, visit.form.get("code", "")
        task = await self._house.vault.once(_name(sale), lambda: self._carry_out(link, code), again=True)
        if not task.done():
            return visit.onward(f"/pay/{sale.hex()}")
        try:
            row = task.result()
        except _Wrong as wrong:
            return visit.onward(_at(link), f"{wrong.heading}. {wrong.what}", "bad")
        except EXPECTED as error:
            problem = problem_of(error)
            return visit.onward(_at(link), f"{problem.heading}. {problem.what}", "bad")
        self._offers.pop(link, None)
        return visit.onward(_history(row))

    async def _carry_out(self, link: PaymentLink, code: str) -> ExchangeRow:
        async with self._house.vault.wallet() as wallet:
            quote = self._offers.get(link) or await self._checked(wallet, link)
            async with wallet.presence(quote.bank.address.broker) as requester:
                return await pay_once(wallet, quote, requester, code=code, patience_ms=PATIENCE_MS)

    async def wait(self, visit: Visit) -> Response:
        """Show a payment whose coins are still being got ready; go on when it is on its way."""
        sale = visit.request.path_params["sale"]
        try:
            number = bytes.fromhex(sale)
        except ValueError:
            number = b""
        row = await self._standing(number)
        if row is not None:
            return visit.onward(_history(row))
        task = self._house.vault.task(_name(number))
        if task is not None and not task.done():
            return self._house.pages.show(visit.request, "pay_wait.html", visit.session, title="Paying")
        told = "This payment came to nothing, and nothing was paid. Open the shop’s link once more."
        if task is not None and not task.cancelled() and (error := task.exception()) is not None:
            told = f"{error}. {told}"
        return self._house.pages.problem(visit.request, 404, "Nothing was paid", told, visit.session, _PAY)

    async def _standing(self, payment_id: bytes) -> ExchangeRow | None:
        async with self._house.vault.store() as store:
            return await standing_payment(store, payment_id)


def _name(payment_id: bytes) -> str:
    return f"payment {payment_id.hex()}"


def _history(row: ExchangeRow) -> str:
    return f"/history/{row.id.hex()}"


def _at(link: PaymentLink) -> str:
    return f"/pay?link={quoted(str(link), safe='')}"


def _again_at(link: PaymentLink) -> Next:
    return Next(_at(link), "Try again")


def _again(row: ExchangeRow) -> str:
    if row.open:
        return "You are paying this already; nothing more was paid."
    return "This wallet has paid this before; nothing more was paid."


def _read(text: str) -> PaymentLink:
    try:
        return PaymentLink.parse(text)
    except PeerError as error:
        told = (
            "What was opened is not a shop’s payment link, or a part of it is missing. Nothing was paid. Copy all of "
            "it from the shop’s page: it begins with web+ecash."
        )
        raise _Wrong(400, "That is no payment link", told) from error


def _expired() -> _Wrong:
    told = "The shop’s offer has expired. Nothing was paid. Order again at the shop, and open the new link."
    return _Wrong(410, "This offer is over", told, Next("/", "Go to your wallet"))


def _bank_of(wallet: Wallet, link: PaymentLink) -> Bank:
    try:
        return bank_for(wallet, link)
    except WalletError as error:
        known = [bank.row.name for bank in wallet.banks]
        if link.bank in known:
            told = (
                f"The link names a bank {link.bank}, but not the one that this wallet knows: it is out of date, or "
                "somebody has forged it. Nothing was paid. Ask the shop for a new link."
            )
            raise _Wrong(409, "Another bank of the same name", told) from error
        told = (
            f"The shop takes coins of bank {link.bank}, and this wallet does not know that bank. Nothing was paid. "
            "Enter the address that the bank gave you, or ask the shop whether it takes coins of "
            f"{', '.join(known) or 'another bank'}."
        )
        raise _Wrong(409, "A bank that you do not know", told, Next("/banks", "Go to your banks")) from error


def _distrust(error: PeerError, link: PaymentLink) -> _Wrong:
    """Say what is wrong with an offer."""
    match error.refusal:
        case Refusal.SALE_EXPIRED:
            return _expired()
        case Refusal.WRONG_BANK:
            told = f"Bank {link.bank} has not certified the shop {link.merchant}. Nothing was paid, and should not be."
            return _Wrong(409, "The bank does not vouch for this shop", told)
        case Refusal.FOREIGN_KEYSET:
            told = (
                "Shop and wallet see different keys of the bank, which could tell buyers apart. Nothing was paid. Try "
                "again in a while; if it stays so, tell the bank."
            )
            return _Wrong(409, "The bank’s keys differ", told, _again_at(link))
        case refusal:
            told = f"{TABLE[refusal].meaning} Nothing was paid. Ask the shop for a new link."
            return _Wrong(409, "This link cannot be trusted", told)


async def _affordable(wallet: Wallet, quote: Quote, short: Shortfall, in_hand: Amount) -> Shortfall:
    """Return what can be withdrawn first, as the account is."""
    amounts, balance = await covered(wallet, quote.bank, short.amounts)
    if amounts:
        return Shortfall(amounts)
    amount, account = quote.amount, Amount(balance, quote.amount.currency)
    told = (
        f"The shop asks for {amount}. You have {in_hand} in coins of {quote.bank.row.name} and {account} in your "
        "account there, which is too little with the bank’s commission. Nothing was paid. Bring money to the bank, or "
        "have somebody send you coins."
    )
    raise _Wrong(402, "Not enough money", told, Next("/", "Go to your wallet"))


async def _in_hand(wallet: Wallet, quote: Quote) -> Amount:
    coins = await wallet.store.coins(quote.bank.row.name, quote.amount.currency)
    return Amount(sum(one.value for one in coins), quote.amount.currency)


def _check_account(quote: Quote, in_hand: Amount) -> None:
    """Where the coins are worth too little, there must be an account to withdraw from."""
    bank, amount = quote.bank, quote.amount
    if bank.row.account is not None and bank.row.currency == amount.currency:
        return
    missing = Amount(max(0, amount.value - in_hand.value), amount.currency)
    told = (
        f"The shop asks for {amount}. You have {in_hand} in coins of {bank.row.name}, so {missing} are missing, and "
        f"this wallet has no account there in {amount.currency} to withdraw from. Nothing was paid. Open one, or have "
        "somebody send you coins."
    )
    raise _Wrong(402, "Not enough money", told, Next("/banks", "Go to your banks"))
