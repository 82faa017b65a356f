"""The wallet: it registers, withdraws and pays; each exchange goes on over crashes until it has ended."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, Self

from broker.address import BrokerUrl
from broker.port import Link
from protocol import topics
from protocol.answer import Answer, open_answer
from protocol.codec import Message
from protocol.derivation import Root, new_request_id
from protocol.envelope import EnvelopeKey, Letter, request_hash, seal_letter
from protocol.keyset import KeyRing, Keyset, read_keyset
from protocol.machine import Send, backoff
from protocol.messages import AccountAnswer, AccountRequest
from protocol.refusals import Refusal
from protocol.signatures import public_key

from ..address import BankAddress
from ..invitation import hash_invitation
from ..keysets import accept
from ..requester import NobodyAnswers, Requester, asking, pause_ms
from ..trace import point
from ..world import Clock, Entropy
from .store import BankRow, WalletStore

_log = logging.getLogger("ecash.wallet")

LinkMaker = Callable[[BrokerUrl, str], Link]
"""Makes an anonymous presence at a broker under a fresh client id."""

HOUR_MS: Final = 3_600_000
IN_USE: Final = (
    "another device with the same words uses account {account} at {bank}. If it is lost, or this wallet is to take its "
    "place, run `ecash wallet register ADDRESS --take-over`; the other one is served no more then"
)


class WalletError(Exception):
    """Something the owner can mend; the text says how."""


class InUse(WalletError):
    """Another device uses the account; it must be taken over explicitly."""


class Bank(NamedTuple):
    """A bank as the wallet uses it: where, who, and its keys."""

    row: BankRow
    address: BankAddress
    ring: KeyRing

    @classmethod
    def of(cls, row: BankRow) -> Self:
        """Return a bank as the wallet's file knows it."""
        return cls(row, BankAddress.parse(row.address), KeyRing(read_keyset(row.keyset)))

    @property
    def keyset(self) -> Keyset:
        """The newest keyset that the wallet has seen."""
        return self.ring.keyset


class Wallet:
    """An open wallet.

    Args:
        store: its file.
        root: the root of its secrets.
        link: makes the presence that one exchange has at a broker.
        clock, entropy: the world.
    """

    def __init__(self, store: WalletStore, root: Root, link: LinkMaker, clock: Clock, entropy: Entropy) -> None:
        self.store = store
        self.root = root
        self.clock = clock
        self.entropy = entropy
        self._link = link
        self._device = b""
        self._banks: dict[str, Bank] = {}

    async def start(self) -> None:
        """Load what the wallet knows of its banks."""
        self._device = await self.store.meta("device") or b""
        for row in await self.store.banks():
            self._remember(row)

    def _remember(self, row: BankRow) -> Bank:
        bank = self._banks[row.name] = Bank.of(row)
        return bank

    def new_id(self) -> bytes:
        """Return a fresh request id."""
        return new_request_id(self._device, self.entropy.bytes(32))

    async def new_exchange_id(self, bank: Bank) -> bytes:
        """Return the request id of the next exchange or ticket at a bank; it is used up, whatever becomes of it."""
        generation, counter = await self.store.next_counter(bank.row.name)
        point("wallet.counter.used")
        return self.root.exchange_id(bank.keyset.identity, generation, counter)

    @property
    def banks(self) -> list[Bank]:
        """All banks that the wallet knows, by name."""
        return [bank for _, bank in sorted(self._banks.items())]

    def bank(self, name: str | None = None) -> Bank:
        """Return a bank by name, or the only one.

        Raises:
            WalletError: if there is none of that name, or several and none was named.
        """
        if name is None and len(self._banks) == 1:
            return next(iter(self._banks.values()))
        if name is None:
            known = ", ".join(self._banks) or "none yet: run `ecash wallet register` first"
            raise WalletError(f"name the bank with --bank; this wallet knows {known}")
        if name not in self._banks:
            raise WalletError(f"this wallet knows no bank {name}: register with `ecash wallet register ADDRESS`")
        return self._banks[name]

    @asynccontextmanager
    async def presence(self, broker: BrokerUrl) -> AsyncIterator[Requester]:
        """Be present at a broker for one exchange: a fresh connection and a fresh random client id."""
        async with asking(self._link(broker, self.entropy.bytes(16).hex())) as requester:
            yield requester

    async def refresh(self, address: BankAddress, requester: Requester) -> Bank:
        """Fetch the bank's keyset and merge it with what is known.

        Raises:
            NobodyAnswers: if no keyset is announced.
            PeerError: if the keyset is not the pinned bank's, or was rolled back or forked.
        """
        announced = await requester.retained(topics.keys(address.bank))
        known = self._banks.get(address.bank)
        if known is not None and known.row.keyset == announced and known.address == address:
            return known
        await accept(address, announced, known.ring if known else None)
        if known is None:
            row = BankRow(address.bank, str(address), announced, None, None, None)
        else:
            row = known.row._replace(address=str(address), keyset=announced)
        await self.store.save_bank(row)
        return self._remember(row)

    async def register(self, address: BankAddress, invitation: bytes, *, take_over: bool = False) -> AccountAnswer:
        """Claim an account with an invitation, or (empty) look at the one that is open for this wallet's key.

        The bank serves one device for an account. This one becomes it when the account is claimed or was never used;
        from another device it must `take_over` explicitly, and that one is served no more.

        Raises:
            InUse: if another device uses the account.
            PeerError: the bank's refusal, or a keyset that cannot be trusted.
            NobodyAnswers: if the bank does not answer.
        """
        async with self.presence(address.broker) as requester:
            bank = await self.refresh(address, requester)
            if invitation:
                answer = await self._claim(bank, requester, invitation)
            else:
                answer = await self.ask_bank(bank, requester, "account", AccountRequest(b"", 0))
            ours = 1 if invitation and not answer.refusal else bank.row.generation
            if answer.refusal == Refusal.SUPERSEDED:  # another device has used the invitation
                answer = await self.ask_bank(bank, requester, "account", AccountRequest(b"", 0))
            told = AccountAnswer.decode(answer.check())
            if told.generation != ours or not ours:
                if told.generation and not take_over:
                    raise InUse(IN_USE.format(account=told.account, bank=address.bank))
                successor = AccountRequest(b"", told.generation + 1)
                answer = await self.ask_bank(bank, requester, "account", successor)
                told = AccountAnswer.decode(answer.check())
            row = bank.row._replace(
                account=told.account, currency=told.currency, title=told.name, generation=told.generation
            )
            point("wallet.account.saving")
            await self.store.save_bank(row)
            point("wallet.account.saved")
            self._remember(await self._row(address.bank))
            return told

    async def _claim(self, bank: Bank, requester: Requester, invitation: bytes) -> Answer:
        """Claim an account: kept before it is sent, so that a lost answer is had again by the same bytes."""
        name = f"claim at {bank.row.name} by {hash_invitation(invitation).hex()}"
        kept = await self.store.meta(name)
        if not kept:
            request_id = self.new_id()
            kept = request_id + self.seal_for_bank(bank, "account", request_id, AccountRequest(invitation, 1))
            await self.store.set_meta(name, kept)
        answer = await self._ask(bank, requester, "account", kept[:16], kept[16:])
        if answer.refusal:  # nothing was claimed by these bytes: the next try writes others
            await self.store.set_meta(name, b"")
        return answer

    async def _row(self, name: str) -> BankRow:
        return next(row for row in await self.store.banks() if row.name == name)

    async def ask_bank(self, bank: Bank, requester: Requester, kind: str, body: Message) -> Answer:
        """Ask under the account, for something that changes nothing or may safely be asked anew; return the answer.

        Raises:
            NobodyAnswers: if the bank does not answer for half a minute.
        """
        request_id = self.new_id()
        return await self._ask(bank, requester, kind, request_id, self.seal_for_bank(bank, kind, request_id, body))

    async def ask_anonymously(self, bank: Bank, kind: str, body: Message) -> Answer:
        """Ask as nobody, over a presence for this one question, for what changes nothing; return the answer.

        Raises:
            NobodyAnswers: if the bank does not answer for half a minute.
        """
        request_id = self.new_id()
        envelope = self.seal_anonymous(bank.keyset.envelope_key, kind, request_id, body)
        async with self.presence(bank.address.broker) as requester:
            return await self._ask(bank, requester, kind, request_id, envelope)

    async def _ask(self, bank: Bank, requester: Requester, kind: str, request_id: bytes, envelope: bytes) -> Answer:
        sealed = await requester.ask(
            request_id,
            lambda attempt: requester.send(
                Send(bank.row.name, kind, request_id, envelope, attempt), bank.keyset.limits.lanes
            ),
            (backoff(attempt, self.entropy.jitter()) for attempt in range(5)),
            lambda sealed: pause_ms(self.open_from_bank(bank, request_id, envelope, sealed), self.entropy),
        )
        if sealed is None:
            raise NobodyAnswers(f"bank {bank.row.name} does not answer: is it running?")
        return self.open_from_bank(bank, request_id, envelope, sealed)

    def seal_for_bank(self, bank: Bank, kind: str, request_id: bytes, body: Message) -> bytes:
        """Return the envelope of a request that the account's key signs."""
        seed = self.root.account(bank.keyset.identity)
        letter = Letter(
            kind,
            request_id,
            self._deadline(),
            self.root.answer_key(request_id),
            public_key(seed),
            body.encode(),
        )
        return seal_letter(bank.keyset.envelope_key, letter, seed)

    def seal_anonymous(self, key: EnvelopeKey, kind: str, request_id: bytes, body: Message) -> bytes:
        """Return the envelope of a request that nobody signs."""
        answer_key = self.root.answer_key(request_id)
        letter = Letter(kind, request_id, self._deadline(), answer_key, b"", body.encode())
        return seal_letter(key, letter, None)

    def _deadline(self) -> int:
        """Return a day from now, to the full hour: the clock's own error would tell one wallet from another."""
        return -(-(self.clock.now() + 24 * HOUR_MS) // HOUR_MS) * HOUR_MS

    def open_from_bank(self, bank: Bank, request_id: bytes, envelope: bytes, sealed: bytes) -> Answer:
        """Open the bank's answer to a request; raise PeerError if it is not one."""
        return open_answer(bank.keyset.identity, self.root.answer_key(request_id), request_hash(envelope), sealed)
