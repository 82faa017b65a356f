import hashlib
from typing import Any

import msgpack
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocol.answer import open_secret, seal_secret
from protocol.codec import MAX_MESSAGE
from protocol.coins import MAX_COINS, Evidence
from protocol.errors import PeerError
from protocol.recovery import (
    CHECK,
    FETCH,
    KEPT_WITHDRAWALS,
    MAX_SPENDINGS,
    RECOVER,
    REDEEM,
    CheckAnswer,
    CheckRequest,
    RecoverAnswer,
    RedeemRequest,
    SealedSpending,
    Spending,
    StoredAnswer,
    find_spending,
    redeem_digest,
    seal_spending,
)
from protocol.refusals import Refusal
from protocol.topics import BANK_KINDS
from tests.world import alter, altered, seed
from tests.world import world as make_world

WORLD = make_world()
DIGEST = seed("what coins were spent on")
SPENT = WORLD.purse.spend(DIGEST)
EVIDENCE = [Evidence(one.coin.denomination, one.coin.serial, DIGEST, one.spend) for one in SPENT]
SEALED = [seal_spending(one) for one in EVIDENCE]
FIRST = EVIDENCE[0]


def derived(name: str, evidence: Evidence) -> bytes:
    text = f"ecash/v1 spending {name}\0".encode() + evidence.denomination + evidence.serial
    return hashlib.sha256(text).digest()


# ---------------------------------------------------------------- what is spent


def test_every_coin_is_found_among_the_spendings_by_its_number() -> None:
    for one in EVIDENCE:
        assert find_spending(SEALED, one.denomination, one.serial) == one
        assert find_spending(SEALED[::-1], one.denomination, one.serial) == one


def test_a_coin_that_is_not_among_them_is_not_spent() -> None:
    assert find_spending([], FIRST.denomination, FIRST.serial) is None
    assert find_spending(SEALED[1:], FIRST.denomination, FIRST.serial) is None
    assert find_spending(SEALED, FIRST.denomination, altered(FIRST.serial)) is None
    assert find_spending(SEALED, altered(FIRST.denomination), FIRST.serial) is None


def test_tag_and_key_derive_from_the_coins_number_and_nothing_is_told_to_who_does_not_know_it() -> None:
    sealed = SEALED[0]
    assert sealed.tag == derived("tag", FIRST)[:16]
    padded = AESGCM(derived("key", FIRST)).decrypt(sealed.sealed[:12], sealed.sealed[12:], sealed.tag)
    assert msgpack.packb([DIGEST, FIRST.spend]) in padded
    encoded = CheckAnswer(tuple(SEALED), complete=True).encode()
    for one in EVIDENCE:
        assert one.serial[:8] not in encoded
        assert one.spend[:8] not in encoded
    assert DIGEST[:8] not in encoded


def test_a_spending_is_sealed_the_same_each_time_and_all_are_of_one_length() -> None:
    assert [seal_spending(one) for one in EVIDENCE] == SEALED
    assert len({len(one.sealed) for one in SEALED}) == 1


def sealed_as(body: bytes, **fields: Any) -> SealedSpending:
    tag = SEALED[0].tag
    return alter(SealedSpending(tag, seal_secret(derived("key", FIRST), tag, body)), "tag", fields.get("tag", tag))  # type: ignore[no-any-return]


CLAIMS: dict[str, tuple[SealedSpending, Refusal]] = {
    "altered": (alter(SEALED[0], "sealed"), Refusal.MALFORMED),
    "nothing": (SealedSpending(SEALED[0].tag, b""), Refusal.MALFORMED),
    "of another coin": (SealedSpending(SEALED[0].tag, SEALED[1].sealed), Refusal.MALFORMED),
    "no spending": (sealed_as(b"x"), Refusal.MALFORMED),
    "signed by nobody": (sealed_as(Spending(DIGEST, bytes(64)).encode()), Refusal.BAD_SIGNATURE),
    "signed by another coin": (sealed_as(Spending(DIGEST, EVIDENCE[1].spend).encode()), Refusal.BAD_SIGNATURE),
    "another digest": (sealed_as(Spending(seed("else"), FIRST.spend).encode()), Refusal.BAD_SIGNATURE),
}


@pytest.mark.parametrize(("claim", "refusal"), CLAIMS.values(), ids=CLAIMS)
def test_a_bank_that_says_spent_must_show_the_signature(claim: SealedSpending, refusal: Refusal) -> None:
    with pytest.raises(PeerError) as caught:
        find_spending([*SEALED[1:], claim], FIRST.denomination, FIRST.serial)
    assert caught.value.refusal is refusal


def test_a_signature_by_the_coins_own_key_is_found() -> None:
    body = Spending(DIGEST, FIRST.spend).encode()
    assert find_spending([sealed_as(body)], FIRST.denomination, FIRST.serial) == FIRST
    assert Spending.decode(open_secret(derived("key", FIRST), SEALED[0].tag, SEALED[0].sealed)).encode() == body


@pytest.mark.parametrize("prefix", ["", "0", "0123456789abcdef"])
def test_a_prefix_is_hexadecimal(prefix: str) -> None:
    request = CheckRequest(seed("denomination"), prefix)
    assert CheckRequest.decode(request.encode()) == request


@pytest.mark.parametrize("prefix", ["A", "g", "0\n", "0" * 17, " ", "٣"])
def test_a_prefix_is_nothing_else(prefix: str) -> None:
    with pytest.raises(PeerError) as caught:
        CheckRequest.decode(CheckRequest(seed("denomination"), prefix).encode())
    assert caught.value.refusal is Refusal.MALFORMED


def test_as_many_spendings_as_are_told_at_once_fit_into_an_answer() -> None:
    answer = CheckAnswer((SEALED[0],) * MAX_SPENDINGS, complete=True)
    assert CheckAnswer.decode(answer.encode()) == answer
    assert len(answer.encode()) < MAX_MESSAGE // 2


# ---------------------------------------------------------------- redemption and the rest


def test_the_digest_of_a_redemption_is_over_bank_request_and_account() -> None:
    expected = hashlib.sha256(b"ecash/v1 redeem\0\0\x05north" + b"r" * 16 + seed("key")).digest()
    assert redeem_digest("north", b"r" * 16, seed("key")) == expected


def test_another_bank_request_or_account_has_another_digest() -> None:
    digests = [
        redeem_digest("north", b"r" * 16, seed("key")),
        redeem_digest("south", b"r" * 16, seed("key")),
        redeem_digest("northr", b"r" * 15, seed("key")),
        redeem_digest("north", b"s" * 16, seed("key")),
        redeem_digest("north", b"r" * 16, seed("another key")),
    ]
    assert len(set(digests)) == len(digests)


def test_as_many_coins_as_a_request_may_have_can_be_redeemed() -> None:
    request = RedeemRequest(1, 4, SPENT[:1] * MAX_COINS)
    assert RedeemRequest.decode(request.encode()) == request


def test_an_answer_may_hold_every_withdrawal_that_is_kept() -> None:
    stored = StoredAnswer(b"r" * 16, seed("request"), b"sealed" * 2000)
    answer = RecoverAnswer((stored,) * KEPT_WITHDRAWALS, KEPT_WITHDRAWALS, 0)
    assert RecoverAnswer.decode(answer.encode()) == answer


def test_the_kinds_are_those_of_the_topics() -> None:
    assert {RECOVER, FETCH, CHECK, REDEEM} <= BANK_KINDS
