"""Tending: what the wallet does by itself, so that its coins stay good and make every sum that is likely to be paid."""

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, Never

from broker.port import LinkError
from protocol.errors import PeerError
from protocol.keyset import Denomination
from protocol.wallet.stock import Swap, next_tending, plan_stock, plan_tidying, refresh_at

from ..home import HomeError
from ..requester import NobodyAnswers
from ..world import Clock, Entropy
from .plans import Hand, carry_out, hand_of, plan_refresh
from .resume import resume
from .show import describe
from .store import UNVERIFIED, CoinsTaken, ExchangeRow, WalletStore
from .verify import verify, worth
from .wallet import Bank, Wallet

_log = logging.getLogger("ecash.wallet")

UP_TO: Final = 5_000
"""Sums up to this many minor units should be payable without a change."""
REST_MS: Final = 60_000
"""How long the wallet's file stays free for other commands after each pass, at the least."""
_PURPOSES: Final = ("refresh", "tidy", "stock")


async def tend(wallet: Wallet, bank: Bank, up_to: int = UP_TO) -> list[ExchangeRow]:
    """Put the coins of one bank in order: one pass.

    Open exchanges are carried on, and coins that are still unverified, for what was to verify them broke off, are
    verified; then there is at most one exchange for each currency to refresh coins that come near their spend-until,
    one to put small coins together, and one to have small change. The last two cost nothing: where the bank charges for
    them, they are not made.

    Args:
        wallet: whose coins.
        bank: where; its newest keyset is fetched.
        up_to: sums up to so many minor units should be payable without a change.

    Returns:
        The exchanges that went on or were made. If one is still open, nothing more was begun.

    Raises:
        LinkError, NobodyAnswers: if the broker or the bank's keyset is not there.
        PeerError: if the keyset cannot be trusted.
    """
    rows = await resume(wallet, bank=bank.row.name)
    _tell(row for row in rows if not row.open)
    async with wallet.presence(bank.address.broker) as requester:
        bank = await wallet.refresh(bank.address, requester)
    if await worth(wallet, bank, UNVERIFIED):
        await verify(wallet, bank)
    for currency in sorted({one.currency for _, one in bank.ring.items()}):
        for purpose in _PURPOSES:
            hand, plan = await _plan(wallet, bank, currency, purpose, up_to)
            if plan is None:
                continue
            try:
                row = await carry_out(wallet, bank, plan, hand, purpose)
            except CoinsTaken:
                continue  # they are in use: another time
            _tell([row])
            rows.append(row)
            if row.open:
                return rows
    return rows


async def _plan(wallet: Wallet, bank: Bank, currency: str, purpose: str, up_to: int) -> tuple[Hand, Swap | None]:
    now = wallet.clock.now()

    def due(denomination_id: bytes, one: Denomination) -> bool:
        return now >= refresh_at(one.spend_until, one.mint_until, wallet.root.refresh_jitter(denomination_id))

    fresh = await hand_of(wallet, bank, currency, lambda key, one: not due(key, one))
    values, commission, limit = fresh.values, bank.keyset.tariff.exchange, bank.keyset.limits.max_coins
    match purpose:
        case "refresh":
            old = await hand_of(wallet, bank, currency, due)
            return old, plan_refresh(old.counts, fresh.counts, values, commission, limit)
        case "tidy":
            return fresh, plan_tidying(fresh.counts, values, commission, limit)
        case _:
            return fresh, plan_stock(fresh.counts, values, commission, limit, up_to)


def _tell(rows: Iterable[ExchangeRow]) -> None:
    for row in rows:
        _log.info("%s", describe(row))


class Keeper(NamedTuple):
    """The wallet of a home that other commands use as well: it is opened for each pass, and closed in between.

    `open_wallet` opens and locks it, and raises `HomeError` if it is in use; `open_store` only looks at its file. After
    each pass it rests for `rest_ms`, so that others come to use the wallet.
    """

    open_wallet: Callable[[], AbstractAsyncContextManager[Wallet]]
    open_store: Callable[[], AbstractAsyncContextManager[WalletStore]]
    clock: Clock
    entropy: Entropy
    up_to: int = UP_TO
    rest_ms: int = REST_MS

    async def run(self) -> Never:
        """Tend at once and then at random times, and carry open exchanges on when they want it, until cancelled."""
        tend_at = rest_until = self.clock.now()
        while True:
            now = self.clock.now()
            due_at = max(rest_until, min(tend_at, await self._wake_at(tend_at)))
            if now < due_at:
                await self.clock.sleep_until(
                    min(due_at, now + self.rest_ms)
                )  # another command may begin something meanwhile
                continue
            try:
                async with self.open_wallet() as wallet:
                    if now >= tend_at:
                        await self._tend(wallet)
                        tend_at = next_tending(now, self.entropy.jitter())
                    else:
                        _tell(row for row in await resume(wallet) if not row.open)
            except HomeError as error:
                _log.debug("later: %s", error)  # another command has it
            rest_until = self.clock.now() + self.rest_ms

    async def _wake_at(self, otherwise: int) -> int:
        async with self.open_store() as store:
            return min((row.wake_at for row in await store.exchanges(only_open=True)), default=otherwise)

    async def _tend(self, wallet: Wallet) -> None:
        for bank in wallet.banks:
            try:
                await tend(wallet, bank, self.up_to)
            except (LinkError, NobodyAnswers, PeerError) as error:
                _log.warning("the coins of %s were not looked after: %s", bank.row.name, error)
