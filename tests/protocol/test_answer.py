import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.answer import (
    HEADER_BYTES,
    MAX_RETRY_AFTER,
    Answer,
    Pause,
    open_answer,
    open_secret,
    overloaded,
    refuse,
    request_id_of,
    seal_answer,
    seal_secret,
)
from protocol.codec import MAX_MESSAGE
from protocol.envelope import pad
from protocol.errors import PeerError
from protocol.refusals import Refusal
from protocol.signatures import public_key
from tests.world import NOW, altered, seed

SIGNER = seed("signer")
KEY, HASHED, REQUEST_ID = seed("answer key"), seed("request"), b"r" * 16
ANSWER = Answer(NOW, "", "", b"the body")
SEALED = seal_answer(SIGNER, KEY, REQUEST_ID, HASHED, ANSWER)


def refusal_of(signer: bytes, key: bytes, hashed: bytes, sealed: bytes) -> Refusal:
    with pytest.raises(PeerError) as caught:
        open_answer(signer, key, hashed, sealed)
    return caught.value.refusal


def test_a_sealed_answer_opens_and_has_the_same_bytes_each_time() -> None:
    assert open_answer(public_key(SIGNER), KEY, HASHED, SEALED) == ANSWER
    assert request_id_of(SEALED) == REQUEST_ID
    assert seal_answer(SIGNER, KEY, REQUEST_ID, HASHED, ANSWER) == SEALED


def test_another_answer_has_another_nonce() -> None:
    other = seal_answer(SIGNER, KEY, REQUEST_ID, HASHED, Answer(NOW + 1, "", "", b"the body"))
    assert other[HEADER_BYTES : HEADER_BYTES + 12] != SEALED[HEADER_BYTES : HEADER_BYTES + 12]


def test_an_answer_opens_only_for_its_own_request_key_and_signer() -> None:
    signer = public_key(SIGNER)
    assert refusal_of(signer, altered(KEY), HASHED, SEALED) is Refusal.MALFORMED
    assert refusal_of(signer, KEY[:-1], HASHED, SEALED) is Refusal.MALFORMED
    assert refusal_of(signer, KEY, altered(HASHED), SEALED) is Refusal.MALFORMED
    assert refusal_of(public_key(seed("other")), KEY, HASHED, SEALED) is Refusal.BAD_SIGNATURE


def test_an_answer_altered_in_any_byte_is_refused() -> None:
    for index in range(len(SEALED)):
        flipped = SEALED[:index] + bytes([SEALED[index] ^ 1]) + SEALED[index + 1 :]
        expected = Refusal.MALFORMED if index else Refusal.UNKNOWN_VERSION
        assert refusal_of(public_key(SIGNER), KEY, HASHED, flipped) is expected


def test_an_answer_cut_at_any_place_or_lengthened_is_refused() -> None:
    for length in range(len(SEALED)):
        assert refusal_of(public_key(SIGNER), KEY, HASHED, SEALED[:length]) is Refusal.MALFORMED
    assert refusal_of(public_key(SIGNER), KEY, HASHED, SEALED + b"\0") is Refusal.MALFORMED
    assert refusal_of(public_key(SIGNER), KEY, HASHED, SEALED.ljust(MAX_MESSAGE + 1, b"\0")) is Refusal.MALFORMED


@given(st.binary(max_size=2000), st.binary(max_size=40))
def test_a_secret_opens_under_its_key_and_context_alone(plaintext: bytes, context: bytes) -> None:
    sealed = seal_secret(KEY, context, plaintext)
    assert len(sealed) == 12 + len(pad(plaintext)) + 16
    assert open_secret(KEY, context, sealed) == plaintext
    for key, about in ((altered(KEY), context), (KEY, context + b"x")):
        with pytest.raises(PeerError) as caught:
            open_secret(key, about, sealed)
        assert caught.value.refusal is Refusal.MALFORMED


def test_an_answer_without_refusal_gives_its_body() -> None:
    assert ANSWER.check() == b"the body"


@pytest.mark.parametrize("refusal", Refusal)
def test_a_refusal_travels_and_is_raised_by_who_asked(refusal: Refusal) -> None:
    sealed = seal_answer(SIGNER, KEY, REQUEST_ID, HASHED, refuse(NOW, PeerError(refusal, "why")))
    answer = open_answer(public_key(SIGNER), KEY, HASHED, sealed)
    with pytest.raises(PeerError) as caught:
        answer.check()
    assert (caught.value.refusal, caught.value.detail) == (refusal, "why")


def test_a_code_that_is_not_in_the_table_is_malformed() -> None:
    with pytest.raises(PeerError) as caught:
        Answer(NOW, "because", "", b"").check()
    assert caught.value.refusal is Refusal.MALFORMED


def test_a_detail_is_cut_to_what_an_answer_holds() -> None:
    answer = refuse(NOW, PeerError(Refusal.BAD_COIN, "é" * 501))
    assert Answer.decode(answer.encode()) == Answer(NOW, "bad_coin", "é" * 500, b"")


@pytest.mark.parametrize(("pause", "told"), [(0, 0), (1_500, 1_500), (-1, 0), (10**9, MAX_RETRY_AFTER)])
def test_who_is_overloaded_says_for_how_long(pause: int, told: int) -> None:
    answer = Answer.decode(overloaded(NOW, pause).encode())
    assert (answer.at, answer.refusal, answer.retry_after) == (NOW, "overloaded", told)
    with pytest.raises(PeerError) as caught:
        answer.check()
    assert caught.value.refusal is Refusal.OVERLOADED


def test_only_a_true_pause_of_who_is_overloaded_is_one() -> None:
    pause = Pause(5_000).encode()
    assert Answer(NOW, "overloaded", "", pause).retry_after == 5_000
    assert Answer(NOW, "pending", "", pause).retry_after == 0
    for body in (b"", pause + b"\0", Pause(MAX_RETRY_AFTER + 1).encode()):
        assert Answer(NOW, "overloaded", "", body).retry_after == 0
