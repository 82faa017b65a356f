import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.answer import (
    HEADER_BYTES,
    Answer,
    open_answer,
    open_secret,
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
