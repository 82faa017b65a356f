"""The office's page of the accounts: what each bank holds for the shop, and having it paid out."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from broker.address import BrokerUrl
from broker.mqtt import MqttLink
from broker.port import Link, LinkError
from protocol.errors import PeerError
from protocol.merchant import payout as machine
from protocol.money import format_minor
from protocol.payout import PayoutStatus
from protocol.refusals import TABLE, Refusal

from ...home import HomeError
from ...requester import NobodyAnswers
from ...web.events import Update, stream
from ...web.gate import Gate, Visit
from ..office import LinkMaker, Office
from ..store import PayoutRow
from .site import Shop

PATH: Final = "/office/payout"
_PATIENCE_MS: Final = 10_000
_EXPECTED: Final = (HomeError, LinkError, NobodyAnswers, PeerError, ValueError)
_TONES: Final = {"queued": "wait", "exported": "wait", "settled": "good", "returned": "bad"}


class Account(NamedTuple):
    """What a bank says of the shop's account, in minor units; or in `wrong`, why it says nothing."""

    bank: str
    currency: str = ""
    balance: int = 0
    payouts: Sequence[PayoutStatus] = ()
    wrong: str = ""


def over_mqtt(broker: BrokerUrl, client_id: str) -> Link:
    """Return a presence at the broker for one visit to a bank."""
    return MqttLink(broker, client_id, persistent=False)


def routes(shop: Shop, gate: Gate, link: LinkMaker) -> list[BaseRoute]:
    """Return the routes of the page."""
    accounts = _Accounts(shop, Office(shop.agent.desk, link))
    return [
        Route(PATH, gate.behind(accounts.show), methods=["GET"]),
        Route(PATH, gate.behind(accounts.pay_out), methods=["POST"]),
        Route(f"{PATH}/events", gate.behind(accounts.events), methods=["GET"]),
    ]


class _Accounts:
    def __init__(self, shop: Shop, office: Office) -> None:
        self._shop = shop
        self._office = office
        self._store = shop.agent.desk.store
        self._banks = list(shop.agent.desk.settings.addresses)
        self._paying = asyncio.Lock()

    async def show(self, visit: Visit) -> Response:
        """Show the accounts; the banks are asked after the page is there, or at once if that is asked for."""
        looks = bool(visit.request.query_params.get("look"))
        return self._shop.pages.show(
            visit.request,
            "office_payout.html",
            visit.session,
            title="Payout",
            banks=self._banks,
            told={bank: await self._ask(bank) for bank in self._banks if looks},
            tones=_TONES,
            seen=await self._seen(),
            still_open=[row for row in await self._store.payouts() if row.open],
        )

    async def events(self, visit: Visit) -> Response:
        """Send what each bank says."""
        return stream(visit.request, self._answers())

    async def _answers(self) -> AsyncIterator[Update]:
        for bank in self._banks:
            told = self._shop.pages.part("office_account.html", account=await self._ask(bank), tones=_TONES)
            yield Update({f"account-{bank}": told})
        yield Update({}, done=True)

    async def _ask(self, bank: str) -> Account:
        """Ask a bank, which takes a visit to it."""
        try:
            account = await self._office.account(bank)
            told = await self._office.payouts(bank)
        except _EXPECTED as error:
            return Account(bank, wrong=_sentence(error))
        return Account(bank, account.currency, account.balance, told.payouts)

    async def pay_out(self, visit: Visit) -> Response:
        """Have money paid out, unless there was another payout since the form was made."""
        bank, amount = visit.form.get("bank", ""), visit.form.get("amount", "")
        if visit.form.get("all"):
            amount = ""
        elif not amount:
            return visit.onward(PATH, "Say how much is to be paid out, or choose everything.", "bad")
        async with self._paying:
            if visit.form.get("seen") != await self._seen():
                told = "Nothing was paid out now: since that form was made, there was a payout. Look at it below."
                return visit.onward(PATH, told, "bad")
            try:
                row = await self._office.pay_out(self._office.bank(bank), amount, _PATIENCE_MS)
            except _EXPECTED as error:
                return visit.onward(PATH, f"Nothing was paid out: {_sentence(error)}", "bad")
        return visit.onward(PATH, *_outcome(row))

    async def _seen(self) -> str:
        """Return how many payouts there are."""
        return str(len(await self._store.payouts()))


def _outcome(row: PayoutRow) -> tuple[str, str]:
    moved = format_minor(row.amount, row.currency)
    match row.state:
        case machine.Queued(balance=left):
            return f"{moved} are on their way from bank {row.bank}. Left: {format_minor(left, row.currency)}.", "good"
        case machine.Refused(refusal=refusal):
            return f"Bank {row.bank} does not pay out {moved}: {TABLE[Refusal(refusal)].meaning}", "bad"
        case _:
            told = f"Bank {row.bank} has not answered yet about {moved}. Ask for it again, and it is carried on."
            return told, "info"


def _sentence(error: Exception) -> str:
    if isinstance(error, PeerError):
        return TABLE[error.refusal].meaning
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
