"""Receiving coins that somebody has handed over: first what they are, then they are exchanged."""

import asyncio
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from protocol.errors import PeerError
from protocol.token import Token, coins_of
from protocol.wallet import exchange

from ...address import BankAddress
from ...web.gate import Visit
from ..inbox import address_of, bank_of, known_bank, receive
from ..show import describe
from ..wallet import Bank
from .history import onward_to
from .house import House

_PATIENCE_MS: Final = 8_000
_MOST: Final = 32
_UNPROCESSABLE: Final = 422


def routes(house: House) -> list[BaseRoute]:
    """Return the pages on which coins are received."""
    receiving = _Receiving(house)
    one = "/receive/{number}"
    return [
        Route("/receive", house.page(receiving.ask), methods=["GET"]),
        Route("/receive", house.page(receiving.read), methods=["POST"]),
        Route(one, house.page(receiving.show), methods=["GET"]),
        Route(one, house.page(receiving.take), methods=["POST"]),
        Route(f"{one}/trust", house.page(receiving.trust), methods=["POST"]),
    ]


class Worth(NamedTuple):
    """What a token is worth, and what the bank takes for exchanging it; `problem` if that cannot be told."""

    amount: int = 0
    commission: int = 0
    problem: str = ""


class _Receiving:
    def __init__(self, house: House) -> None:
        self._house = house
        self._tokens: dict[str, Token] = {}  # by hash; the text is money, so it never stands in an address
        house.vault.at_lock(self._tokens.clear)

    async def ask(self, visit: Visit) -> Response:
        return self._form(visit, "")

    def _form(self, visit: Visit, wrong: str) -> Response:
        status = _UNPROCESSABLE if wrong else 200
        return self._house.pages.show(
            visit.request, "receive.html", visit.session, status, title="Receive", wrong=wrong
        )

    async def read(self, visit: Visit) -> Response:
        try:
            token = Token.parse(visit.form.get("token", ""))
        except PeerError as error:
            return self._form(visit, f"These are no coins: {error.detail}.")
        number = token.hash.hex()
        self._tokens[number] = token
        while len(self._tokens) > _MOST:
            del self._tokens[next(iter(self._tokens))]
        return visit.onward(f"/receive/{number}")

    def _token(self, visit: Visit) -> Token:
        token = self._tokens.get(visit.request.path_params["number"])
        if token is None:
            raise HTTPException(404, "The wallet was locked meanwhile. Paste the coins once more.")
        return token

    async def show(self, visit: Visit) -> Response:
        token = self._token(visit)
        async with self._house.vault.wallet() as wallet:
            before = await wallet.store.received(token.hash)
            if before is not None and isinstance(before.state, exchange.Exchanged):
                return visit.onward(f"/history/{before.id.hex()}", "This wallet has these coins already.", "info")
            bank = known_bank(wallet, token)
        worth = Worth() if bank is None else await _worth(bank, token)
        return self._house.pages.show(
            visit.request, "receive_one.html", visit.session, title="Receive", token=token, worth=worth,
            number=token.hash.hex(), address=str(address_of(token)), known=bank is not None
        )  # fmt: skip

    async def trust(self, visit: Visit) -> Response:
        """Enter the bank of a token, which its owner trusts."""
        token = self._token(visit)
        async with self._house.vault.wallet() as wallet:
            await bank_of(wallet, token, _trusted)
        return visit.onward(f"/receive/{token.hash.hex()}", f"Bank {token.bank} is entered.")

    async def take(self, visit: Visit) -> Response:
        token = self._token(visit)
        async with self._house.vault.wallet() as wallet:
            bank = known_bank(wallet, token)
            if bank is None:
                told = f"First say whether you trust the bank {token.bank}."
                return visit.onward(f"/receive/{token.hash.hex()}", told, "bad")
            row, again = await receive(wallet, bank, token, patience_ms=_PATIENCE_MS)
        if again:
            return visit.onward(f"/history/{row.id.hex()}", "This wallet has had these coins before.", "info")
        if isinstance(row.state, exchange.Exchanged):
            return visit.onward(f"/history/{row.id.hex()}", describe(row))
        return onward_to(visit, row)


async def _worth(bank: Bank, token: Token) -> Worth:
    try:
        coins = await asyncio.to_thread(coins_of, token, bank.ring)
    except PeerError as error:
        return Worth(problem=error.detail or error.refusal)
    amount = sum(bank.ring.denomination(coin.denomination).value for coin, _ in coins)
    return Worth(amount, bank.keyset.tariff.exchange.charge(amount))


async def _trusted(address: BankAddress) -> bool:
    return True
