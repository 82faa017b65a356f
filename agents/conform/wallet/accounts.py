"""§5.4, §8, §9: registering, withdrawing, and the keysets that a wallet accepts."""

import re
from collections.abc import Callable

import msgspec

from broker.port import Outgoing
from protocol import topics
from protocol.answer import Answer, open_answer
from protocol.blind_rsa import check_blinded
from protocol.envelope import request_hash
from protocol.errors import PeerError
from protocol.keyset import KeyRing, SignedKeyset
from protocol.messages import AccountRequest, BlindSignature, WithdrawAnswer, WithdrawRequest
from protocol.refusals import Refusal
from protocol.signatures import check_public_key, public_key

from ..bank.visit import code_of
from ..case import Suite
from ..played import Heard, Honest, Mood, first, honest, sealed, silent
from ..voice import HOUR_MS
from .visit import WalletVisit

suite = Suite[WalletVisit]("wallet")
AMOUNT = 127


def check_deadline(visit: WalletVisit, heard: Heard) -> None:
    """Check that a deadline of about a day is rounded up to the full hour (§7.4)."""
    deadline = heard.opened.deadline
    visit.notes.same("milliseconds beyond the full hour:", 0, deadline % HOUR_MS)
    ahead = (deadline - visit.clock.now()) / HOUR_MS
    visit.notes.check("24 h, rounded up", holds=22 < ahead <= 26, came=f"{ahead:.2f} h")


def distinct(heard: list[Heard]) -> list[Heard]:
    """Return requests without those that are copies of earlier ones, byte for byte."""
    return list({one.payload: one for one in reversed(heard)}.values())[::-1]


@suite.case(
    "register.letter", "8", "The account's key signs `account` with the invitation; the deadline is a rounded day."
)
async def _letter(visit: WalletVisit) -> None:
    await visit.register()
    heard = visit.stage.ear.of("account")
    claims = [one for one in heard if AccountRequest.decode(one.opened.body).invitation == visit.invitation]
    visit.notes.check("a request with the invitation", holds=bool(claims), came=f"{len(heard)} requests")
    try:
        check_public_key(claims[0].opened.sender)
    except PeerError as error:
        visit.notes.fail("an account's key of prime order", code_of(error))
    check_deadline(visit, claims[0])


@suite.case(
    "withdraw.letter",
    "9.1",
    "A withdrawal names generation and commission; its denominations are minted now, and make the sum.",
)
async def _withdraw(visit: WalletVisit) -> None:
    await visit.register()
    before, since = await _free(visit), len(visit.stage.ear.heard)
    await visit.does(*visit.withdrawing(AMOUNT))
    heard = distinct(visit.stage.ear.of("withdraw", since))
    visit.notes.same("requests:", 1, len(heard))
    request = WithdrawRequest.decode(heard[0].opened.body)
    keyset = visit.stage.keyset
    values = {one.id: one.value for one in keyset.denominations if one.mint_from <= visit.clock.now() < one.mint_until}
    visit.notes.same("sum", AMOUNT, sum(values.get(coin.denomination, 0) for coin in request.coins))
    charge = keyset.tariff.withdrawal.charge(AMOUNT)
    visit.notes.same("generation, commission", (1, charge), (request.generation, request.commission))
    visit.notes.same("settled", (), request.settled)
    visit.notes.check(
        "at most `max_coins`", holds=len(request.coins) <= keyset.limits.max_coins, came=f"{len(request.coins)}"
    )
    check_deadline(visit, heard[0])
    visit.notes.same("free coins worth", before + AMOUNT, (await visit.balance()).get("free", 0))


@suite.case("withdraw.values", "3.7", "Blinded values are such as a bank signs, and none comes twice.")
async def _values(visit: WalletVisit) -> None:
    await visit.bought()
    requests = [WithdrawRequest.decode(one.opened.body) for one in distinct(visit.stage.ear.of("withdraw"))]
    blinded = [coin for request in requests for coin in request.coins]
    ring = KeyRing(visit.stage.keyset)
    try:
        for coin in blinded:
            check_blinded(ring.key(coin.denomination), coin.blinded)
    except PeerError as error:
        visit.notes.fail("values that may be signed", code_of(error))
    visit.notes.same("different values:", len(blinded), len({coin.blinded for coin in blinded}))


async def _free(visit: WalletVisit) -> int:
    """Return what the wallet's free coins are worth; it is asked only if that is not known."""
    return (await visit.balance()).get("free", 0) if visit.free is None else visit.free


async def _moody(visit: WalletVisit, mood: Mood, *, succeeds: bool) -> tuple[list[Heard], int]:
    """Withdraw while the bank is in a mood; return the requests, and how much more money there is then."""
    await visit.register()
    ear = visit.stage.ear
    before, since, ear.mood = await _free(visit), len(ear.heard), mood
    try:
        await (visit.does if succeeds else visit.fails)(*visit.withdrawing(AMOUNT))
    finally:
        ear.mood = honest
    return ear.of("withdraw", since), (await visit.balance()).get("free", 0) - before


@suite.case(
    "withdraw.repeats", "7.3", "While the bank is silent the same bytes are sent again, each time in the next lane."
)
async def _repeats(visit: WalletVisit) -> None:
    heard, more = await _moody(visit, first("withdraw", 2, silent), succeeds=True)
    visit.notes.check("three requests", holds=len(heard) >= 3, came=f"{len(heard)}")
    visit.notes.same("different ones:", 1, len({one.payload for one in heard}))
    lanes, request_id = visit.stage.keyset.limits.lanes, heard[0].opened.request_id
    wanted = [topics.lane_of(request_id, lanes, attempt) for attempt in range(len(heard))]
    visit.notes.same("lanes", wanted, [one.topic.lane for one in heard if isinstance(one.topic, topics.BankRequest)])
    visit.notes.same("more money:", AMOUNT, more)


def told(visit: WalletVisit, change: Callable[[WithdrawAnswer], WithdrawAnswer], signer: bytes = b"") -> Mood:
    """Return a mood: the honest answer to a withdrawal, changed, and signed by the bank (or whom else)."""
    seed, name = visit.stage.keys.identity, visit.stage.address.bank

    async def tell(heard: Heard, go: Honest) -> Outgoing | None:
        said, letter = await go(), heard.opened
        if said is None:
            return None
        answer = open_answer(public_key(seed), letter.answer_key, request_hash(heard.payload), said.payload)
        body = change(WithdrawAnswer.decode(answer.check())).encode()
        return sealed(name, signer or seed, heard, msgspec.structs.replace(answer, body=body))

    return tell


def refusing(visit: WalletVisit, code: Refusal) -> Mood:
    """Return a mood: the bank refuses, and does nothing."""

    async def refuse(heard: Heard, _: Honest) -> Outgoing | None:
        answer = Answer(visit.clock.now(), code.value, "", b"")
        return sealed(visit.stage.address.bank, visit.stage.keys.identity, heard, answer)

    return refuse


@suite.case("withdraw.forged", "3.6", "An answer that another key has signed is dropped; the true one is still taken.")
async def _forged(visit: WalletVisit) -> None:
    mood = first("withdraw", 1, told(visit, lambda answer: answer, bytes(32)))
    heard, more = await _moody(visit, mood, succeeds=True)
    visit.notes.check("another request", holds=len(heard) >= 2, came=f"{len(heard)}")
    visit.notes.same("more money:", AMOUNT, more)


@suite.case("withdraw.busy", "7.5", "On `overloaded` the wallet goes on as if nothing had come.")
async def _busy(visit: WalletVisit) -> None:
    heard, more = await _moody(visit, first("withdraw", 1, refusing(visit, Refusal.OVERLOADED)), succeeds=True)
    visit.notes.same("different requests:", 1, len({one.payload for one in heard}))
    visit.notes.same("more money:", AMOUNT, more)


def _value(visit: WalletVisit, coin: BlindSignature) -> int:
    return next(one.value for one in visit.stage.keyset.denominations if one.id == coin.denomination)


async def _wrong(
    visit: WalletVisit, what: str, change: Callable[[tuple[BlindSignature, ...]], tuple[BlindSignature, ...]]
) -> None:
    """Answer with changed signatures; the wallet keeps what verifies, and does not call it a success."""
    seen: list[tuple[BlindSignature, ...]] = []

    def changed(answer: WithdrawAnswer) -> WithdrawAnswer:
        wrong = change(answer.coins)
        seen.append(tuple(one for one, true in zip(wrong, answer.coins, strict=False) if one == true))
        return msgspec.structs.replace(answer, coins=wrong)

    visit.notes.tell(f"an answer with {what}")
    _, more = await _moody(visit, first("withdraw", 1000, told(visit, changed)), succeeds=False)
    visit.notes.same("more money, of what verifies:", sum(_value(visit, one) for one in seen[0]), more)


@suite.case("withdraw.spoilt", "9.3", "A signature that does not verify makes no coin; the others are kept.")
async def _spoilt(visit: WalletVisit) -> None:
    def spoil(coins: tuple[BlindSignature, ...]) -> tuple[BlindSignature, ...]:
        last = coins[-1]
        return (
            *coins[:-1],
            msgspec.structs.replace(last, signature=last.signature[:-1] + bytes([last.signature[-1] ^ 1])),
        )

    await _wrong(visit, "a spoilt signature", spoil)


@suite.case("withdraw.few", "9.3", "Too few signatures make no withdrawal; the coins that verify are kept.")
async def _few(visit: WalletVisit) -> None:
    await _wrong(visit, "a signature too few", lambda coins: coins[:-1])


@suite.case("withdraw.permuted", "9.3", "Signatures in another order are not those that were asked for.")
async def _permuted(visit: WalletVisit) -> None:
    await _wrong(visit, "the first and the last signature exchanged", lambda coins: (coins[-1], *coins[1:-1], coins[0]))


@suite.case("withdraw.refused", "9.3", "A final refusal ends the withdrawal, without coins.")
async def _refused(visit: WalletVisit) -> None:
    mood = first("withdraw", 1000, refusing(visit, Refusal.INSUFFICIENT_FUNDS))
    _, more = await _moody(visit, mood, succeeds=False)
    visit.notes.same("more money:", 0, more)


@suite.case("keyset.newer", "5.4", "A keyset that follows the known one is accepted.")
async def _newer(visit: WalletVisit) -> None:
    await visit.register()
    known = visit.stage.keyset
    chain = (*known.chain, known.hash)
    newer = msgspec.structs.replace(known, number=known.number + 1, chain=chain, issued_at=visit.clock.now())
    await visit.stage.adopt(newer)
    visit.notes.tell(f"keyset {newer.number}")
    visit.free = None
    await visit.does(*visit.withdrawing(AMOUNT))


@suite.case(
    "keyset.refused",
    "5.4",
    "A keyset that is rolled back, forked, or not signed by the bank, is refused, and nothing asked.",
)
async def _keysets(visit: WalletVisit) -> None:
    await visit.register()
    stage, known, seed = visit.stage, visit.stage.keyset, visit.stage.keys.identity
    chain = (*known.chain, known.hash)
    follower = msgspec.structs.replace(known, number=known.number + 1, chain=chain, issued_at=visit.clock.now())
    older = msgspec.structs.replace(known, number=0, chain=())
    forked = msgspec.structs.replace(known, issued_at=known.issued_at + 1)
    try:
        for what, announced in {
            "one that another key has signed": SignedKeyset.sign(bytes(32), follower),
            "another one of the same number": SignedKeyset.sign(seed, forked),
            "one that is rolled back": SignedKeyset.sign(seed, older),
        }.items():
            if announced.keyset == known.encode():
                continue  # this bank has announced one keyset only, so there is none to roll back to
            visit.notes.tell(f"a keyset: {what}")
            since = len(stage.ear.heard)
            await stage.announce(announced.encode())
            await visit.fails(*visit.withdrawing(AMOUNT))
            visit.notes.same("withdrawals asked for:", 0, len(stage.ear.of("withdraw", since)))
    finally:
        await stage.announce(stage.announcement)


@suite.case("presence.id", "6.2", "Client ids are 32 hexadecimal digits; a withdrawal has its own.")
async def _presence(visit: WalletVisit) -> None:
    await visit.bought()
    ids = visit.clients({one.topic.kind for one in visit.heard})
    odd = [one for one in ids if not re.fullmatch(r"[0-9a-f]{32}", one)]
    visit.notes.check("32 hexadecimal digits", holds=not odd, came=odd[0] if odd else f"{len(ids)} ids")
    requests = distinct(visit.stage.ear.of("withdraw"))
    visit.notes.same("ids of withdrawals:", len(requests), len({one.topic.client for one in requests}))
