import pytest

from protocol.bank.desk import DETAILS, Contradicted, Refused, contradicted, known, refused
from protocol.bank.ledger import Conflict
from protocol.errors import PeerError
from protocol.refusals import Refusal
from tests.world import NOW, World


def test_an_account_that_is_open_is_known(world: World) -> None:
    assert known(world.account) is world.account


def test_no_account_is_unknown() -> None:
    with pytest.raises(PeerError) as caught:
        known(None)
    assert caught.value.refusal is Refusal.UNKNOWN_ACCOUNT


def test_an_error_becomes_a_refusal_with_code_and_detail() -> None:
    assert refused(PeerError(Refusal.BAD_COIN, "why")) == Refused("bad_coin", "why")


@pytest.mark.parametrize("code", DETAILS)
def test_what_the_books_contradict_is_explained(code: str) -> None:
    state = contradicted(Contradicted(Conflict(code), NOW))
    assert state == Refused(code, DETAILS[code])
    assert state.detail
    assert code in set(Refusal)


def test_a_code_without_explanation_is_told_as_it_is() -> None:
    assert contradicted(Contradicted(Conflict("already_paid"), NOW)) == Refused("already_paid", "")
