import pytest

from protocol.errors import IllegalTransition, OurError, PeerError, ProtocolError
from protocol.refusals import Refusal


def test_ours_and_the_peers_faults_are_told_apart() -> None:
    assert issubclass(OurError, ProtocolError)
    assert issubclass(PeerError, ProtocolError)
    assert not issubclass(OurError, PeerError)
    assert not issubclass(PeerError, OurError)


def test_an_illegal_transition_is_ours_and_names_state_and_event() -> None:
    error = IllegalTransition(1, "one")
    assert isinstance(error, OurError)
    assert str(error) == "str may not happen in int"


@pytest.mark.parametrize(
    ("detail", "text"), [("", "bad_coin"), ("the signature is wrong", "bad_coin: the signature is wrong")]
)
def test_a_peer_error_carries_its_code_and_its_detail(detail: str, text: str) -> None:
    error = PeerError(Refusal.BAD_COIN, detail)
    assert (error.refusal, error.detail, str(error)) == (Refusal.BAD_COIN, detail, text)
