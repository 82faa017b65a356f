"""What all desks of the bank share: its keys and books, the way to commit, and the way to refuse."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from protocol.answer import Answer, seal_answer
from protocol.bank import deposit as deposit_machine
from protocol.bank.desk import Committed, Contradicted, Post, Refused, Signed, SignerRefused
from protocol.bank.ledger import Conflict, Outcome, Posted, Posting, Repeated
from protocol.envelope import Letter, recipient_of
from protocol.errors import OurError, PeerError
from protocol.keyset import KeyRing
from protocol.machine import State
from protocol.messages import BlindedCoin, Exhibits
from protocol.refusals import TABLE, Advice, Refusal
from protocol.topics import QUESTIONS

from ...trace import point
from ...world import Clock
from ..home import BankKeys
from ..signer import Signer
from ..store import Books

_log = logging.getLogger("ecash.bank")
_T = TypeVar("_T")


class Request(NamedTuple):
    """A request that was opened and authenticated, with the hash of the envelope that it came in."""

    letter: Letter
    hashed: bytes


class Desk:
    """The bank's desk.

    Args:
        name: the bank's.
        ring: the newest keyset's denominations; replaced, with `keys`, when the bank announces anew.
        keys: the private keys for envelopes and statements; coins are signed by `signer`.
        books: where everything is kept.
        signer: holds the denominations' private keys.
        clock: the bank's time decides what is too late.
    """

    def __init__(self, name: str, ring: KeyRing, keys: BankKeys, books: Books, signer: Signer, clock: Clock) -> None:
        self.name = name
        self.ring = ring
        self.keys = keys
        self.books = books
        self.signer = signer
        self.clock = clock
        self.sign_verdict = deposit_machine.sign_verdict(keys.identity)
        self._overdrawn: set[bytes] = set()
        self._verifier = ThreadPoolExecutor(1, thread_name_prefix="verifier")

    def close(self) -> None:
        """Wait for the checks under way."""
        self._verifier.shutdown()

    async def check(self, work: Callable[[], _T]) -> _T:
        """Return what `work` returns; dear cryptography runs beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._verifier, work)

    def open_envelope(self, envelope: bytes, kind: str, refusal: Refusal) -> bytes:
        """Return the plaintext of an envelope inside a request.

        Raises:
            PeerError: `refusal`, if it is sealed for a key that is not the bank's; as `EnvelopePrivateKey.open`.
        """
        key = self.keys.envelopes.get(recipient_of(envelope))
        if key is None:
            raise PeerError(refusal, "sealed for a key that is not ours")
        return key.open(envelope, kind)

    async def sign(self, coins: tuple[BlindedCoin, ...]) -> Signed | SignerRefused:
        """Return blind signatures in the order of the coins."""
        places: defaultdict[bytes, list[int]] = defaultdict(list)
        for place, coin in enumerate(coins):
            places[coin.denomination].append(place)
        try:
            signed = await asyncio.gather(
                *(self.signer.blind_sign(key, [coins[i].blinded for i in where]) for key, where in places.items())
            )
        except PeerError as error:
            return SignerRefused(error.refusal, error.detail)
        by_place = {
            i: signature
            for where, signatures in zip(places.values(), signed, strict=True)
            for i, signature in zip(where, signatures, strict=True)
        }
        return Signed(tuple(by_place[i] for i in range(len(coins))))

    def answer(self, request: Request, body: bytes) -> bytes:
        """Return the sealed answer to a request that changed nothing, and need not be stored."""
        return self.seal(request, Answer(self.clock.now(), "", "", body))

    def seal(self, request: Request, answer: Answer) -> bytes:
        """Sign and seal an answer."""
        letter = request.letter
        return seal_answer(self.keys.identity, letter.answer_key, letter.request_id, request.hashed, answer)

    async def post(self, request: Request, post: Post) -> Outcome:
        """Commit what a machine wants committed, together with the answer."""
        letter = request.letter
        posting = Posting(
            kind=letter.kind,
            request_id=letter.request_id,
            request_hash=request.hashed,
            answer=self.answer(request, post.body),
            entries=post.entries,
            issued=post.issued,
            spent=post.spent,
            spent_on=post.spent_on,
            payment=post.payment,
            claim=post.claim,
            generation=post.generation,
            withdrawal=post.withdrawal,
            redemption=post.redemption,
            payout=post.payout,
            reply=post.reply,
            not_after=post.not_after,
        )
        point(f"bank.{letter.kind}.posting")
        outcome = await self.books.post(posting)
        point(f"bank.{letter.kind}.posted")
        if isinstance(outcome, Conflict) and outcome.overdrawn:
            self._warn_of(outcome.overdrawn)
        return outcome

    def _warn_of(self, denomination: bytes) -> None:
        """Tell the operator, once, of a key that somebody else seems to sign with."""
        if denomination not in self._overdrawn:
            self._overdrawn.add(denomination)
            told = "more coins came back than were ever signed, so the key may be stolen; run: ecash bank revoke %s"
            _log.error(told, denomination.hex())

    def books_say(self, outcome: Outcome) -> Committed | Contradicted:
        """Return what the books' outcome is to a machine. `Repeated` is as good: this request was committed before."""
        return Contradicted(outcome, self.clock.now()) if isinstance(outcome, Conflict) else Committed()

    async def refused(self, request: Request, state: State) -> bytes:
        """Return the answer to a request whose machine ended in `Refused`."""
        if not isinstance(state, Refused):
            raise OurError(f"{request.letter.kind} ended in {state}")
        body = Exhibits(state.evidence).encode() if state.evidence else b""
        error = PeerError(Refusal(state.refusal), state.detail)
        return await self.refuse(request, error, body, lasting=state.lasting)

    async def refuse(self, request: Request, error: PeerError, body: bytes = b"", *, lasting: bool = False) -> bytes:
        """Refuse. A final refusal to an account holder, or a lasting one, is stored, so that it stays the answer."""
        letter = request.letter
        _log.info("%s refused: %s", letter.kind, error)
        answer = self.seal(request, Answer(self.clock.now(), error.refusal.value, error.detail[:500], body))
        final = TABLE[error.refusal].advice is Advice.FINAL
        holder = bool(letter.sender) and await self.books.account_by_key(letter.sender) is not None
        if letter.kind in QUESTIONS or not final or not (lasting or holder):
            return answer
        outcome = await self.books.post(
            Posting(kind="refusal", request_id=letter.request_id, request_hash=request.hashed, answer=answer)
        )
        return outcome.answer if isinstance(outcome, Posted | Repeated) else self.said_before(request, outcome)

    def said_before(self, request: Request, known: Repeated | Conflict) -> bytes:
        """Return the answer to a request that was answered before, or whose id was another's."""
        match known:
            case Repeated(answer=answer):
                return answer
            case Conflict(refusal=refusal):
                detail = "another request with this id was answered"
                return self.seal(request, Answer(self.clock.now(), refusal, detail, b""))


def signed(letter: Letter) -> bytes:
    """Return who signed a letter; raise PeerError (`BAD_SIGNATURE`) if nobody did."""
    if not letter.sender:
        raise PeerError(Refusal.BAD_SIGNATURE, f"a request of kind {letter.kind} is signed")
    return letter.sender
