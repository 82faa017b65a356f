"""The merchant's banks: their keysets, followed, and its account and certificate at each."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from protocol import topics
from protocol.errors import PeerError
from protocol.keyset import KeyRing, read_keyset
from protocol.machine import Send, backoff
from protocol.messages import AccountAnswer, AccountRequest, Certificate, Signed
from protocol.refusals import Refusal
from protocol.signatures import Domain

from ..keysets import accept
from ..requester import NobodyAnswers, Requester, pause_ms
from .desk import Desk, Trust
from .store import MerchantStore

_log = logging.getLogger("ecash.merchant")
_DAY_MS: Final = 86_400_000
PATIENCE_S: Final = 10.0
"""How long to wait for what a bank announces."""


async def known_keyset(store: MerchantStore, bank: str) -> KeyRing | None:
    """Return the last keyset that the shop has accepted of a bank."""
    stored = await store.meta(f"keyset {bank}")
    return KeyRing(read_keyset(stored)) if stored else None


async def ask_account(desk: Desk, requester: Requester, ring: KeyRing, invitation: bytes = b"") -> AccountAnswer:
    """Ask a bank for the account of the merchant's key, claiming it with an invitation if there is one.

    Raises:
        NobodyAnswers: if the bank does not answer for some seconds.
        PeerError: the bank's refusal.
    """
    keyset = ring.keyset
    deadline = desk.clock.now() + _DAY_MS
    request_id, envelope = desk.seal(ring, "account", AccountRequest(invitation, 0), deadline)
    sealed = await requester.ask(
        request_id,
        lambda attempt: requester.send(
            Send(keyset.bank, "account", request_id, envelope, attempt), keyset.limits.lanes
        ),
        (backoff(attempt, desk.entropy.jitter()) for attempt in range(5)),
        lambda sealed: pause_ms(desk.open(ring, request_id, envelope, sealed), desk.entropy),
    )
    if sealed is None:
        raise NobodyAnswers(f"bank {keyset.bank} does not answer: is it running?")
    return AccountAnswer.decode(desk.open(ring, request_id, envelope, sealed).check())


class Banks:
    """The banks where the merchant has accounts. What is agreed with each stands in `Desk.banks`.

    Args:
        desk: the merchant's.
        requester: asks over the merchant's presence.
        invitations: by bank; they claim accounts at banks where the merchant has none yet.

    Raises:
        HomeError: if the settings name no banks, or impossible ones.
    """

    def __init__(self, desk: Desk, requester: Requester, invitations: Mapping[str, bytes]) -> None:
        self.addresses = desk.settings.addresses
        self._desk = desk
        self._requester = requester
        self._invitations = invitations
        self._locks = {bank: asyncio.Lock() for bank in self.addresses}  # two keysets at once could leave the older

    async def load(self) -> None:
        """Take up what was agreed before: the shop opens even while banks are away."""
        for bank in self.addresses:
            ring = await known_keyset(self._desk.store, bank)
            signed = await self._desk.store.meta(f"certificate {bank}")
            if ring is not None and signed:
                self._desk.banks[bank] = self._trust(ring, signed)

    def _trust(self, ring: KeyRing, signed: bytes) -> Trust:
        certificate = Certificate.decode(Signed.decode(signed).check(ring.keyset.identity, Domain.CERTIFICATE))
        name, key = self._desk.settings.name, self._desk.keys.public
        if (certificate.merchant, certificate.key) != (name, key):
            raise PeerError(Refusal.WRONG_MERCHANT, f"the bank certifies {certificate.merchant}, not {name}")
        return Trust(ring, certificate, signed)

    async def join(self, bank: str) -> None:
        """Find a bank, and agree with it.

        Raises:
            NobodyAnswers: if it is not there; see `hear`.
            PeerError: if it refuses, or its keyset cannot be trusted.
        """
        await self.hear(bank, await self._requester.retained(topics.keys(bank), PATIENCE_S))

    async def hear(self, bank: str, announced: bytes) -> bool:
        """Take in what a bank announces: a newer keyset, or, at the first time, the one to ask for the account under.

        Returns:
            Whether the bank is new here.

        Raises:
            NobodyAnswers, PeerError: as `join`.
        """
        store = self._desk.store
        async with self._locks[bank]:
            trust = self._desk.banks.get(bank)
            if trust is not None and announced == await store.meta(f"keyset {bank}"):
                return False
            known = trust.ring if trust else await known_keyset(store, bank)
            ring = await accept(self.addresses[bank], announced, known)
            await store.set_meta(f"keyset {bank}", announced)
            _log.info("keyset %d of bank %s", ring.keyset.number, bank)
            if trust is not None:
                self._desk.banks[bank] = trust._replace(ring=ring)
                return False
            told = await ask_account(self._desk, self._requester, ring, self._invitations.get(bank, b""))
            if not told.certificate:
                raise PeerError(Refusal.WRONG_MERCHANT, f"account {told.account} at {bank} is no merchant's account")
            self._desk.banks[bank] = self._trust(ring, told.certificate)
            await store.set_meta(f"certificate {bank}", told.certificate)
            return True
