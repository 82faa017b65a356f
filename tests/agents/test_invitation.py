import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.invitation import hash_invitation, read_invitation, write_invitation


@given(st.binary(min_size=16, max_size=16))
def test_an_invitation_is_read_however_it_was_typed(secret: bytes) -> None:
    text = write_invitation(secret)
    assert read_invitation(text) == secret
    assert read_invitation(f" {text.upper().replace('-', ' ')} ") == secret
    assert len(hash_invitation(secret)) == 32


@pytest.mark.parametrize("text", ["", "abcd", "1" * 26, "a" * 27, "ümlaut" * 5, "a" * 1000])
def test_what_is_no_invitation_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="no invitation"):
        read_invitation(text)
