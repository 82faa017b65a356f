"""Agents that the suite plays: ours, which note all that they are asked, and misbehave when a case wants it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from broker.address import BrokerUrl
from broker.mqtt import MqttLink
from broker.port import Incoming, Link, Outgoing
from protocol import topics
from protocol.answer import Answer, seal_answer
from protocol.envelope import EnvelopePrivateKey, Letter, open_letter, recipient_of, request_hash
from protocol.errors import PeerError
from protocol.keyset import Keyset, read_keyset
from protocol.messages import Status
from protocol.refusals import Refusal

from ..address import BankAddress
from ..bank import home as bank_home
from ..bank.agent import BankAgent
from ..bank.service import announcements_in, open_books
from ..bank.signer import SoftwareSigner
from ..bank.sqlite import SqliteBooks
from ..bank.store import Books
from ..invitation import hash_invitation
from ..world import Clock, Entropy

LARGEST: Final = 14
"""Coins are worth 1, 2, 4 … up to two to the power of this, unless told otherwise."""


class Heard(NamedTuple):
    """A request that came: where, as it was sent, and its letter; None, and why, if it did not open."""

    topic: topics.BankRequest | topics.MerchantRequest
    payload: bytes
    letter: Letter | None
    fault: str = ""

    @property
    def opened(self) -> Letter:
        """The letter.

        Raises:
            PeerError: `MALFORMED`, if it did not open.
        """
        if self.letter is None:
            raise PeerError(Refusal.MALFORMED, self.fault)
        return self.letter


Honest: TypeAlias = Callable[[], Awaitable[Outgoing | None]]
Mood: TypeAlias = Callable[[Heard, Honest], Awaitable[Outgoing | None]]
"""Decides what becomes of a request; the second argument does what an honest agent would."""


async def honest(_: Heard, go: Honest) -> Outgoing | None:
    """Do as an honest agent does."""
    return await go()


class Ear:
    """What an agent has heard, and how it takes it.

    Args:
        keys: the private keys that open letters.
    """

    def __init__(self, keys: Callable[[bytes], EnvelopePrivateKey | None]) -> None:
        self.heard: list[Heard] = []
        self.mood: Mood = honest
        self._keys = keys
        self._news = asyncio.Condition()

    async def take(self, message: Incoming, go: Honest) -> Outgoing | None:
        """Note a request, and let the mood decide; retained ones, and what is on no topic for requests, are `go`'s."""
        try:
            topic = topics.parse(message.topic)
        except PeerError:
            return await go()
        if message.retained or not isinstance(topic, topics.BankRequest | topics.MerchantRequest):
            return await go()
        heard = self._open(topic, message.payload)
        async with self._news:
            self.heard.append(heard)
            self._news.notify_all()
        return await self.mood(heard, go)

    def _open(self, topic: topics.BankRequest | topics.MerchantRequest, payload: bytes) -> Heard:
        try:
            key = self._keys(recipient_of(payload))
            if key is None:
                raise PeerError(Refusal.MALFORMED, "sealed for another key")
            return Heard(topic, payload, open_letter(key, payload, topic.kind))
        except PeerError as error:
            return Heard(topic, payload, None, f"{error.refusal}: {error.detail}")

    def of(self, kind: str, since: int = 0) -> list[Heard]:
        """Return the requests of a kind, from the one numbered `since` on."""
        return [one for one in self.heard[since:] if one.topic.kind == kind]

    async def comes(self, kind: str, count: int, since: int = 0) -> list[Heard]:
        """Return the requests of a kind as soon as there are so many."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.of(kind, since)) >= count)
        return self.of(kind, since)


def first(kind: str, count: int, instead: Mood) -> Mood:
    """Return a mood: `instead` for the first so many requests of a kind, honest for all others."""
    left = [count]

    async def mood(heard: Heard, go: Honest) -> Outgoing | None:
        if heard.topic.kind != kind or left[0] == 0:
            return await go()
        left[0] -= 1
        return await instead(heard, go)

    return mood


async def silent(_: Heard, __: Honest) -> Outgoing | None:
    """Say nothing, and do nothing."""
    return None


def sealed(name: str, signer_seed: bytes, heard: Heard, answer: Answer) -> Outgoing:
    """Return an answer to a request, signed by whomever."""
    letter, hashed = heard.opened, request_hash(heard.payload)
    payload = seal_answer(signer_seed, letter.answer_key, letter.request_id, hashed, answer)
    return Outgoing(topics.reply_to(heard.topic, name), payload, correlation=letter.request_id)


class PlayedBank(BankAgent):
    """Our bank, as the suite plays it."""

    def __init__(
        self,
        keyset: Keyset,
        announcement: bytes,
        keys: bank_home.BankKeys,
        books: Books,
        signer: SoftwareSigner,
        clock: Clock,
    ) -> None:
        super().__init__(keyset, announcement, keys, books, signer, clock)
        self.ear = Ear(keys.envelopes.get)

    async def handle(self, message: Incoming) -> Outgoing | None:
        """Note a request, and answer it as the mood is."""
        return await self.ear.take(message, lambda: super(PlayedBank, self).handle(message))


@dataclass
class Stage:
    """A bank that the suite plays, at a broker; `announcement` is its newest keyset, signed."""

    home: Path
    address: BankAddress
    agent: PlayedBank
    books: SqliteBooks
    keys: bank_home.BankKeys
    link: Link
    announcement: bytes

    @property
    def keyset(self) -> Keyset:
        """The newest keyset."""
        return self.agent.keyset

    @property
    def ear(self) -> Ear:
        """What the bank has heard."""
        return self.agent.ear

    async def customer(self, name: str, amount: int, currency: str, entropy: Entropy) -> bytes:
        """Open a client's account with money in it; return its invitation (16 bytes)."""
        secret = entropy.bytes(16)
        account = await self.books.open_account("client", name, name, currency, b"", hash_invitation(secret))
        await self.books.credit(account.number, amount, f"cash of {name}")
        return secret

    async def announce(self, announcement: bytes) -> None:
        """Announce any bytes as the bank's keyset."""
        await self.link.announce(Outgoing(topics.keys(self.address.bank), announcement, retain=True))

    async def adopt(self, keyset: Keyset) -> None:
        """Go on under this keyset, and announce it."""
        self.announcement = bank_home.sign_keyset(self.keys.identity, keyset)
        await self.books.add_keyset(keyset.number, self.announcement)
        await self.agent.adopt(keyset, self.announcement, self.keys, self.link)


def played_settings(name: str, currency: str, broker: str, largest: int, entropy: Entropy) -> bank_home.Settings:
    """Return the settings of a bank to play: it charges for everything, so that nobody can forget to pay.

    Raises:
        ValueError: if name or broker are none.
    """
    BrokerUrl.parse(broker)
    return bank_home.Settings(
        name=topics.check_name(name),
        currency=currency,
        broker=broker,
        presence=entropy.bytes(12).hex(),
        withdrawal_commission="1%",
        deposit_commission="2%",
        exchange_commission="3%",
        refund_commission="4%",
        redemption_commission="5%",
        largest_denomination=largest,
    )


async def prepare(home: Path, settings: bank_home.Settings, clock: Clock, entropy: Entropy) -> BankAddress:
    """Make the home of a bank to play, and return its address.

    Raises:
        HomeError: if the home is not empty.
    """
    keyset = await asyncio.to_thread(bank_home.create, home, settings, clock, entropy)
    keys = bank_home.keys_of(home)
    async with open_books(home, clock) as books:
        await books.add_keyset(keyset.number, bank_home.sign_keyset(keys.identity, keyset))
    return bank_home.address_of(settings, keys.identity)


@contextlib.asynccontextmanager
async def playing(home: Path, clock: Clock) -> AsyncIterator[Stage]:
    """Play the bank of this home for as long as the context lasts.

    Raises:
        HomeError: if this is no home that `prepare` made.
        LinkError: if the broker is not there, or refuses.
    """
    settings = bank_home.settings_of(home)
    keys = bank_home.keys_of(home)
    client_id = topics.agent_client(settings.name, settings.presence)
    will = Outgoing(topics.status(settings.name), Status(open=False, lanes=0).encode(), retain=True)
    signer = SoftwareSigner(keys.denominations)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(signer.close)
        books = await stack.enter_async_context(open_books(home, clock))
        announcement = (await announcements_in(home, books))[-1]
        agent = PlayedBank(read_keyset(announcement), announcement, keys, books, signer, clock)
        broker = BrokerUrl.parse(settings.broker)
        link = await stack.enter_async_context(MqttLink(broker, client_id, persistent=True, will=will))
        await stack.enter_async_context(beside(agent.run(link)))
        await agent.ready.wait()
        address = bank_home.address_of(settings, keys.identity)
        yield Stage(home, address, agent, books, keys, link, announcement)


@contextlib.asynccontextmanager
async def beside(work: Awaitable[None]) -> AsyncIterator[None]:
    """Do some work beside the block; it ends with it."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
