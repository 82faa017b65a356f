"""A wallet that is visited: commands to it, and what bank and shop hear of it."""

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from broker.address import BrokerUrl
from broker.mqtt import MqttLink
from broker.port import Incoming, Outgoing
from protocol import topics
from protocol.errors import PeerError
from protocol.messages import MERCHANT, Parcel, PaymentInfo, Payreq, PayRequest, Status
from protocol.money import format_minor

from ...invitation import write_invitation
from ...merchant import home as shop_home
from ...merchant.agent import MerchantAgent
from ...merchant.offers import offered
from ...merchant.store import MerchantStore
from ...world import Clock, Entropy
from ..bank.visit import code_of
from ..case import Failed, Notes
from ..played import Ear, Heard, Stage, beside, playing

SHOP: Final = "conform-shop"
PRICE: Final = 97
MONEY: Final = 1_000_000
SONGS: Final = 12
"""For how many songs is withdrawn at once."""
COMMAND_S: Final = 90
"""How long a command of the wallet may take, in seconds."""
MOMENT_S: Final = 2.0
"""How long a command may go on when all that matters has happened, or when it is asked to end."""
_CATALOG: Final = """
[[item]]
sku = "song"
title = "A song of conformance"
price = "{price}"
goods = "la la la"
"""


class Said(NamedTuple):
    """What a command of the wallet ended with, and printed."""

    code: int
    text: str


class PlayedShop(MerchantAgent):
    """Our merchant, as the suite plays it."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        keys = self.desk.keys
        self.ear = Ear({keys.envelope.key_id: keys.envelope}.get)

    async def announce(self) -> None:
        """Announce the catalogue anew, with the certificates that the desk holds now."""
        await self._announce()

    async def handle(self, message: Incoming) -> Outgoing | None:
        """Note a request, and answer it as the mood is."""
        return await self.ear.take(message, lambda: super(PlayedShop, self).handle(message))


class Payment(NamedTuple):
    """A payment as it came to the shop, and as the bank reads it."""

    heard: Heard
    request: PayRequest
    info: PaymentInfo
    payreq: Payreq
    parcel: Parcel


class WalletVisit:
    """A wallet that is visited.

    Args:
        stage: the bank that is played.
        shop: the shop that is played.
        command: how the wallet is called, such as `ecash wallet`; verbs and arguments follow.
        invitation: of the wallet's account, 16 bytes.
        notes: of the case that runs.
        clock, entropy: the world.
    """

    def __init__(
        self,
        stage: Stage,
        shop: PlayedShop,
        command: str,
        invitation: bytes,
        notes: Notes,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.stage = stage
        self.shop = shop
        self.invitation = invitation
        self.notes = notes
        self.clock = clock
        self.entropy = entropy
        self.registered = False
        self.free: int | None = 0
        self._songs = 0
        self._command = shlex.split(command)

    @property
    def heard(self) -> list[Heard]:
        """Return what bank and shop have heard of wallets: first the bank, without what the shop asked it."""
        shop = self.shop.desk.keys.public
        at_bank = [one for one in self.stage.ear.heard if one.letter is None or one.letter.sender != shop]
        return at_bank + self.shop.ear.heard

    # ---------------------------------------------------------------- commands

    async def call(self, *words: str) -> Said:
        """Run a command of the wallet to its end.

        Raises:
            Failed: if it cannot be started, or does not end.
        """
        self.notes.tell(f"the command {' '.join(words)}")
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise Failed("a command that can be started", str(error)) from error
        try:
            async with asyncio.timeout(COMMAND_S):
                printed, told = await process.communicate()
        except TimeoutError:
            raise Failed(f"its end within {COMMAND_S} seconds", "none") from None
        finally:
            if process.returncode is None:
                await _stop(process)
        return Said(process.returncode or 0, f"{printed.decode(errors='replace')}{told.decode(errors='replace')}")

    async def begins(self, enough: Coroutine[Any, Any, object], *words: str) -> None:
        """Run a command until it ends, or has gone on for a moment when `enough` has happened; then it is stopped."""
        command, event = asyncio.create_task(self.call(*words)), asyncio.create_task(enough)
        try:
            await asyncio.wait({command, event}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({command}, timeout=MOMENT_S)
        finally:
            command.cancel()
            event.cancel()
            await asyncio.gather(command, event, return_exceptions=True)

    async def does(self, *words: str) -> str:
        """Run a command that must succeed; return what it printed."""
        said = await self.call(*words)
        self.notes.check("exit code 0", holds=said.code == 0, came=f"exit code {said.code}: {said.text.strip()}")
        return said.text

    async def fails(self, *words: str) -> None:
        """Run a command that must not succeed."""
        said = await self.call(*words)
        self.notes.check("another exit code than 0", holds=said.code != 0, came=f"{said.code}: {said.text.strip()}")

    async def register(self) -> None:
        """Have the wallet claim its account, once."""
        if not self.registered:
            invitation = write_invitation(self.invitation)
            await self.does("register", str(self.stage.address), "--invitation", invitation)
            self.registered = True

    def withdrawing(self, amount: int) -> tuple[str, ...]:
        """Return the command that withdraws so much, in minor units."""
        currency = self.stage.keyset.denominations[0].currency
        return "withdraw", format_minor(amount, currency).split()[0]

    @property
    def paying(self) -> tuple[str, ...]:
        """The command that buys a song."""
        return "pay", SHOP, "song", "--yes"

    async def balance(self) -> dict[str, int]:
        """Return the worth of the coins in the wallet by their states, such as `free` and `reserved`.

        Raises:
            Failed: if what it prints is not a JSON list of objects with `state`, `value` and `count`.
        """
        printed = await self.does("balance", "--json")
        try:
            rows = msgspec.json.decode(printed, type=list[_Row])
        except msgspec.MsgspecError as error:
            raise Failed("a JSON list of objects with state, value and count", str(error)) from error
        totals: dict[str, int] = {}
        for row in rows:
            totals[row.state] = totals.get(row.state, 0) + row.value * row.count
        self.free = totals.get("free", 0)
        return totals

    async def stocked(self) -> None:
        """See to it that the wallet has coins for a payment."""
        await self.register()
        if self._songs == 0:
            await self.does(*self.withdrawing(SONGS * PRICE))
            self.free, self._songs = None, SONGS
        self._songs -= 1

    async def bought(self) -> Payment:
        """Return a payment that the wallet has made: the first, or one that it makes now."""
        made = await self.payments()
        if not made:
            await self.stocked()
            self.free = None
            await self.does(*self.paying)
            made = await self.payments()
            self.notes.same("payments:", 1, len(made))
        return made[0]

    # ---------------------------------------------------------------- what was heard

    async def payments(self, since: int = 0) -> list[Payment]:
        """Return the payments that came to the shop, from its request numbered `since` on; copies are left out."""
        found: dict[bytes, Payment] = {}
        for heard in self.shop.ear.of("pay", since):
            found.setdefault(heard.payload, await self._payment(heard))
        return list(found.values())

    async def _payment(self, heard: Heard) -> Payment:
        try:
            request = PayRequest.decode(heard.opened.body)
            info = PaymentInfo.decode(request.info)
            key = next(iter(self.stage.keys.envelopes.values()))
            parcel = Parcel.decode(key.open(request.parcel, "parcel"))
        except PeerError as error:
            self.notes.fail("a payment with information and a parcel that open", code_of(error))
        row = await self.shop.desk.store.sale(info.payment_id)
        if row is None or (payreq := _payreq(row.state)) is None:
            self.notes.fail("the payment id of an offer", info.payment_id.hex())
        return Payment(heard, request, info, payreq, parcel)

    def clients(self, kinds: Iterable[str]) -> set[str]:
        """Return the client ids under which requests of these kinds have come."""
        return {one.topic.client for one in self.heard if one.topic.kind in kinds}


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(MOMENT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


class _Row(msgspec.Struct):
    state: str
    value: int
    count: int


def _payreq(state: Any) -> Payreq | None:
    return offered(state) if hasattr(state, "offer") else None


@asynccontextmanager
async def visiting_wallet(
    home: Path, shop_broker: str, command: str, notes: Notes, clock: Clock, entropy: Entropy
) -> AsyncIterator[WalletVisit]:
    """Play the bank of this home, and a shop at it, for as long as the context lasts.

    Raises:
        HomeError: if this is no home that `prepare` made.
        LinkError: if the broker is not there, or refuses.
    """
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(playing(home, clock))
        currency = stage.keyset.denominations[0].currency
        shop = await stack.enter_async_context(_shop(stage, home / "shop", shop_broker, currency, clock, entropy))
        secret = await stage.customer("wallet", MONEY, currency, entropy)
        yield WalletVisit(stage, shop, command, secret, notes, clock, entropy)


@asynccontextmanager
async def _shop(
    stage: Stage, home: Path, broker: str, currency: str, clock: Clock, entropy: Entropy
) -> AsyncIterator[PlayedShop]:
    settings = shop_home.Settings(SHOP, [str(stage.address)], broker, presence=entropy.bytes(12).hex())
    keys = shop_home.create(home, settings, entropy)
    (home / "catalog.toml").write_text(_CATALOG.format(price=format_minor(PRICE, currency)))
    await stage.books.open_account(MERCHANT, SHOP, "The conformance shop", currency, keys.public, b"")
    catalog = shop_home.catalog_of(home)
    will = Outgoing(topics.status(SHOP), Status(open=False, lanes=0).encode(), retain=True)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(MerchantStore(home / "sales.db"))
        client_id = topics.agent_client(SHOP, settings.presence)
        link = MqttLink(BrokerUrl.parse(broker), client_id, persistent=True, will=will)
        await stack.enter_async_context(link)
        shop = PlayedShop(settings, keys, catalog, store, link, clock, entropy)
        await stack.enter_async_context(beside(shop.run()))
        await shop.ready.wait()
        yield shop
