import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import PeerError
from protocol.messages import Signed
from protocol.refusals import Refusal
from protocol.text import read_word, write_word

SCHEME = "ODD+SCHEME:"


def refusal_of(word: str) -> Refusal:
    with pytest.raises(PeerError) as caught:
        read_word(word, SCHEME)
    return caught.value.refusal


@given(statement=st.binary(max_size=100))
def test_what_was_written_is_read_in_any_case(statement: bytes) -> None:
    message = Signed(statement, bytes(64))
    word = write_word(SCHEME, message)
    assert word == word.upper()
    assert "=" not in word
    for form in (word, word.lower(), word.swapcase()):
        assert read_word(form, "OTHER:", SCHEME) == message.encode()


@pytest.mark.parametrize("digits", ["1", "A", "AAA", "MFRGG===", "MZ", "MFRG G", "É", "\u017faaaaaaa"])
def test_digits_that_are_not_the_base32_of_any_bytes_are_refused(digits: str) -> None:
    assert refusal_of(SCHEME + digits) is Refusal.MALFORMED


@pytest.mark.parametrize("word", ["", "ODD+SCHEME", "ODD SCHEME:MFRGG", "OTHER:MFRGG", f" {SCHEME}MFRGG"])
def test_a_word_that_begins_otherwise_is_refused(word: str) -> None:
    assert refusal_of(word) is Refusal.MALFORMED


def test_a_letter_that_only_upper_case_makes_plain_does_not_count() -> None:
    """Among others the long s, which is S in upper case: two texts would look alike."""
    assert "\u017f".upper() == "S"
    assert refusal_of("odd+\u017fcheme:mfrgg") is Refusal.MALFORMED
