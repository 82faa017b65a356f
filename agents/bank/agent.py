"""The bank as a process: it takes requests in, steps their machines, commits, and only then answers."""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple

from broker.port import Incoming, Link, Outgoing
from protocol import topics
from protocol.answer import Answer, refuse, seal_answer
from protocol.bank import account as account_machine
from protocol.bank import deposit as deposit_machine
from protocol.bank import inquiry as inquiry_machine
from protocol.bank import withdrawal as withdrawal_machine
from protocol.bank.desk import Committed, Contradicted, New, Post, Refused
from protocol.bank.ledger import Conflict, Outcome, Posted, Posting, Repeated
from protocol.envelope import Letter, open_letter, recipient_of, request_hash
from protocol.errors import OurError, PeerError
from protocol.keyset import KeyRing, Keyset
from protocol.machine import State
from protocol.messages import (
    PARCEL,
    AccountRequest,
    BlindedCoin,
    DepositAnswer,
    DepositRequest,
    InquiryAnswer,
    InquiryRequest,
    Status,
    WithdrawRequest,
)
from protocol.refusals import TABLE, Advice, Refusal

from ..invitation import hash_invitation
from ..trace import point
from ..world import Clock
from .home import BankKeys
from .signer import Signer
from .store import Books, BooksLost, BooksUnavailable

_log = logging.getLogger("ecash.bank")
_CONCURRENCY: Final = 64


class Request(NamedTuple):
    """A request that was opened and authenticated, with the hash of the envelope that it came in."""

    letter: Letter
    hashed: bytes


class BankAgent:
    """A bank at work.

    Args:
        keyset: the newest one, `announcement` its signed bytes.
        keys: the private keys for envelopes and statements; coins are signed by `signer`.
        books: where everything is kept.
        signer: holds the denominations' private keys.
        clock: the bank's time decides what is too late.
    """

    def __init__(
        self, keyset: Keyset, announcement: bytes, keys: BankKeys, books: Books, signer: Signer, clock: Clock
    ) -> None:
        self.name = keyset.bank
        self.dropped: Counter[str] = Counter()
        self.ready = asyncio.Event()
        self._ring = KeyRing(keyset)
        self._announcement = announcement
        self._keys = keys
        self._books = books
        self._signer = signer
        self._clock = clock
        self._sign_verdict = deposit_machine.sign_verdict(keys.identity)
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._verifier = ThreadPoolExecutor(1, thread_name_prefix="verifier")
        self._desks: dict[str, Callable[[Request], Awaitable[bytes]]] = {
            "account": self._account,
            "withdraw": self._withdraw,
            "deposit": self._deposit,
            "verdict": self._inquiry,
        }

    async def run(self, link: Link) -> None:
        """Serve all lanes over an entered link until cancelled.

        Raises:
            BooksLost: the books have stopped for good.
        """
        lanes = self._ring.keyset.limits.lanes
        await link.subscribe(*(topics.bank_requests(self.name, lane) for lane in range(lanes)))
        await link.announce(Outgoing(topics.keys(self.name), self._announcement, retain=True))
        await link.announce(Outgoing(topics.status(self.name), Status(open=True, lanes=lanes).encode(), retain=True))
        self.ready.set()
        try:
            serving = asyncio.create_task(link.serve(self.handle, concurrency=_CONCURRENCY))
            try:
                await asyncio.wait({serving, self._lost}, return_when=asyncio.FIRST_COMPLETED)
                await (self._lost if self._lost.done() else serving)
            finally:
                serving.cancel()
        finally:
            self._verifier.shutdown()

    async def handle(self, message: Incoming) -> Outgoing | None:
        """Answer one request; drop and count what cannot be answered: whoever sent it gave no key to answer with."""
        try:
            topic = topics.parse(message.topic)
            if message.retained or not isinstance(topic, topics.BankRequest):
                raise PeerError(Refusal.WRONG_TYPE, "not a request")
            request = self._open(topic.kind, message.payload)
        except PeerError as error:
            self.dropped[error.refusal] += 1
            _log.warning("dropped %d bytes on %s: %s", len(message.payload), message.topic, error)
            return None
        point(f"bank.{topic.kind}.opened")
        answer = await self._answer(topic.kind, request)
        point(f"bank.{topic.kind}.answering")
        return Outgoing(topics.reply_to(topic, self.name), answer, correlation=request.letter.request_id)

    def _open(self, kind: str, envelope: bytes) -> Request:
        key = self._keys.envelopes.get(recipient_of(envelope))
        if key is None:
            raise PeerError(Refusal.MALFORMED, "sealed for a key that is not ours")
        return Request(open_letter(key, envelope, kind), request_hash(envelope))

    async def _answer(self, kind: str, request: Request) -> bytes:
        try:
            known = await self._books.stored_answer(request.letter.request_id, request.hashed)
            if known is not None:
                return self._said_before(request, known)
            return await self._decide(kind, request)
        except BooksUnavailable as error:
            if isinstance(error, BooksLost) and not self._lost.done():
                self._lost.set_exception(error)
            _log.exception("the books are unavailable")
            return self._seal(request, refuse(self._clock.now(), PeerError(Refusal.OVERLOADED, "try again later")))

    async def _decide(self, kind: str, request: Request) -> bytes:
        try:
            desk = self._desks.get(kind)
            if desk is None:
                raise PeerError(Refusal.WRONG_TYPE, f"this bank does not serve {kind} yet")
            return await desk(request)
        except PeerError as error:
            return await self._refuse(request, error)

    def _said_before(self, request: Request, known: Repeated | Conflict) -> bytes:
        match known:
            case Repeated(answer=answer):
                return answer
            case Conflict(refusal=refusal):
                error = PeerError(Refusal(refusal), "another request with this id was answered")
                return self._seal(request, refuse(self._clock.now(), error))

    def _seal(self, request: Request, answer: Answer) -> bytes:
        letter = request.letter
        return seal_answer(self._keys.identity, letter.answer_key, letter.request_id, request.hashed, answer)

    async def _refuse(self, request: Request, error: PeerError) -> bytes:
        """Refuse; a final refusal to an account holder is stored, so that it stays the answer."""
        _log.info("%s refused: %s", request.letter.kind, error)
        answer = self._seal(request, refuse(self._clock.now(), error))
        final = TABLE[error.refusal].advice is Advice.FINAL
        if not final or not request.letter.sender or not await self._books.account_by_key(request.letter.sender):
            return answer
        letter = request.letter
        outcome = await self._books.post(
            Posting(kind="refusal", request_id=letter.request_id, request_hash=request.hashed, answer=answer)
        )
        return outcome.answer if isinstance(outcome, Posted | Repeated) else self._said_before(request, outcome)

    async def _post(self, request: Request, post: Post) -> Outcome:
        letter = request.letter
        posting = Posting(
            kind=letter.kind,
            request_id=letter.request_id,
            request_hash=request.hashed,
            answer=self._seal(request, Answer(self._clock.now(), "", "", post.body)),
            entries=post.entries,
            issued=post.issued,
            spent=post.spent,
            payment=post.payment,
            claim=post.claim,
            not_after=post.not_after,
        )
        point(f"bank.{letter.kind}.posting")
        outcome = await self._books.post(posting)
        point(f"bank.{letter.kind}.posted")
        return outcome

    def _books_say(self, outcome: Outcome) -> Committed | Contradicted:
        """Return what the books' outcome is to a machine. `Repeated` is as good: this request was committed before."""
        return Contradicted(outcome, self._clock.now()) if isinstance(outcome, Conflict) else Committed()

    async def _account(self, request: Request) -> bytes:
        letter, books = request.letter, self._books
        body = AccountRequest.decode(letter.body)
        held = await books.account_by_key(letter.sender)
        invited = await books.account_by_invitation(hash_invitation(body.invitation)) if body.invitation else None
        asked = account_machine.Asked(
            key=_signed(letter),
            held=held,
            invited=invited,
            wants=bool(body.invitation),
            balance=await books.balance(account.number) if (account := held or invited) else 0,
            deadline=letter.deadline,
        )
        now, identity = self._clock.now(), self._keys.identity
        state, effects = account_machine.step(New(), asked, self.name, identity, now)
        for post in effects:
            outcome = await self._post(request, post)
            state, _ = account_machine.step(state, self._books_say(outcome), self.name, identity, now)
            if isinstance(outcome, Posted | Repeated):
                return outcome.answer
        return await self._refused(request, state)

    async def _withdraw(self, request: Request) -> bytes:
        letter = request.letter
        account = await self._books.account_by_key(_signed(letter))
        balance = await self._books.balance(account.number) if account else 0
        now = self._clock.now()
        body = WithdrawRequest.decode(letter.body)
        asked = withdrawal_machine.Asked(body, account, balance, self._ring, now, letter.deadline)
        state, effects = withdrawal_machine.step(New(), asked)
        while effects:
            event: withdrawal_machine.WithdrawalEvent
            match effects[0]:
                case withdrawal_machine.SignBlinded(coins=coins):
                    event = await self._sign(coins)
                case Post() as post:
                    outcome = await self._post(request, post)
                    event = self._books_say(outcome)
                    if isinstance(outcome, Posted | Repeated):
                        withdrawal_machine.step(state, event)
                        return outcome.answer
                case other:
                    raise OurError(f"no such effect: {other}")
            state, effects = withdrawal_machine.step(state, event)
        return await self._refused(request, state)

    async def _sign(
        self, coins: tuple[BlindedCoin, ...]
    ) -> withdrawal_machine.Signed | withdrawal_machine.SignerRefused:
        places: defaultdict[bytes, list[int]] = defaultdict(list)
        for place, coin in enumerate(coins):
            places[coin.denomination].append(place)
        try:
            signed = await asyncio.gather(
                *(self._signer.blind_sign(key, [coins[i].blinded for i in where]) for key, where in places.items())
            )
        except PeerError as error:
            return withdrawal_machine.SignerRefused(error.refusal, error.detail)
        by_place = {
            i: signature
            for where, signatures in zip(places.values(), signed, strict=True)
            for i, signature in zip(where, signatures, strict=True)
        }
        return withdrawal_machine.Signed(tuple(by_place[i] for i in range(len(coins))))

    async def _deposit(self, request: Request) -> bytes:
        state, effects = deposit_machine.step(New(), await self._examine(request), self._sign_verdict)
        while effects:
            (post,) = effects
            outcome = await self._post(request, post)
            state, effects = deposit_machine.step(state, self._books_say(outcome), self._sign_verdict)
            if isinstance(outcome, Posted | Repeated):
                return outcome.answer
        match state:
            case deposit_machine.Settled(verdict=verdict, commission=commission):
                body = DepositAnswer(verdict, commission).encode()
                return self._seal(request, Answer(self._clock.now(), "", "", body))
            case _:
                return await self._refused(request, state)

    async def _examine(self, request: Request) -> deposit_machine.DepositEvent:
        """Judge a deposit as far as that needs no books; the cryptography runs beside the event loop."""
        account = await self._books.account_by_key(_signed(request.letter))
        body = DepositRequest.decode(request.letter.body)
        now = self._clock.now()
        try:
            info = deposit_machine.own_payment(body, account, self.name)
        except PeerError as error:
            return deposit_machine.NotTheirs(error.refusal, error.detail)
        loop = asyncio.get_running_loop()
        open_parcel = partial(self._open_parcel, body.parcel)
        try:
            examined = await loop.run_in_executor(
                self._verifier, deposit_machine.examine, info, open_parcel, self._ring, now
            )
        except PeerError as error:
            _log.info("deposit %s refused: %s", info.payment_id.hex(), error)
            return deposit_machine.CoinsBad(info, error.refusal, now)
        return deposit_machine.CoinsGood(examined, now)

    def _open_parcel(self, parcel: bytes) -> bytes:
        key = self._keys.envelopes.get(recipient_of(parcel))
        if key is None:
            raise PeerError(Refusal.BAD_PARCEL, "the coins are sealed for a key that is not ours")
        return key.open(parcel, PARCEL)

    async def _inquiry(self, request: Request) -> bytes:
        letter = request.letter
        body = InquiryRequest.decode(letter.body)
        info = inquiry_machine.check_inquiry(body, letter.request_id, self.name)
        payment, spent_on, now = await self._books.inquiry(info.digest, body.denomination, body.serial)
        asked = inquiry_machine.Asked(info, payment, spent_on, now)
        state, _ = inquiry_machine.step(New(), asked, self._sign_verdict)
        match state:
            case inquiry_machine.Told(verdict=verdict):
                return self._seal(request, Answer(now, "", "", InquiryAnswer(verdict).encode()))
            case _:
                return await self._refused(request, state)

    async def _refused(self, request: Request, state: State) -> bytes:
        if not isinstance(state, Refused):
            raise OurError(f"{request.letter.kind} ended in {state}")
        return await self._refuse(request, PeerError(Refusal(state.refusal), state.detail))


def _signed(letter: Letter) -> bytes:
    """Return who signed a letter; raise PeerError (`BAD_SIGNATURE`) for an anonymous one."""
    if not letter.sender:
        raise PeerError(Refusal.BAD_SIGNATURE, f"{letter.kind} takes a signed request")
    return letter.sender
