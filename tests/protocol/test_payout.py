from typing import Any

import pytest

from protocol.errors import PeerError
from protocol.payout import MAX_PAYOUT, MAX_PAYOUTS, PayoutAnswer, PayoutRequest, PayoutStatus
from protocol.refusals import Refusal
from tests.world import NOW, alter

STATUS = PayoutStatus(17, 1250, 5, "returned", "R02 Account closed", NOW)


@pytest.mark.parametrize("amount", [0, 1, MAX_PAYOUT])
def test_what_an_ach_entry_can_carry_may_be_asked_for(amount: int) -> None:
    request = PayoutRequest(amount, 5)
    assert PayoutRequest.decode(request.encode()) == request


@pytest.mark.parametrize("amount", [-1, MAX_PAYOUT + 1])
def test_no_other_amount_may(amount: int) -> None:
    with pytest.raises(PeerError) as caught:
        PayoutRequest.decode(PayoutRequest(amount, 5).encode())
    assert caught.value.refusal is Refusal.MALFORMED


@pytest.mark.parametrize("state", ["queued", "exported", "settled", "returned"])
def test_a_payout_is_in_one_of_four_states(state: str) -> None:
    answer = PayoutAnswer(3, (alter(STATUS, "state", state),))
    assert PayoutAnswer.decode(answer.encode()) == answer


@pytest.mark.parametrize(
    ("field", "value"),
    [("state", "lost"), ("state", "queued\n"), ("number", -1), ("amount", -1), ("reason", "x" * 121)],
)
def test_a_status_that_cannot_be_is_refused(field: str, value: Any) -> None:
    with pytest.raises(PeerError) as caught:
        PayoutAnswer.decode(PayoutAnswer(3, (alter(STATUS, field, value),)).encode())
    assert caught.value.refusal is Refusal.MALFORMED


def test_an_answer_lists_no_more_than_it_may() -> None:
    longest = PayoutAnswer(3, (STATUS,) * MAX_PAYOUTS)
    assert PayoutAnswer.decode(longest.encode()) == longest
    with pytest.raises(PeerError):
        PayoutAnswer.decode(PayoutAnswer(3, (STATUS,) * (MAX_PAYOUTS + 1)).encode())
