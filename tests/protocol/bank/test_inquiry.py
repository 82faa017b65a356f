from typing import Any

import msgspec
import pytest

from protocol.bank.deposit import expired_verdict, sign_verdict
from protocol.bank.desk import New, Refused
from protocol.bank.inquiry import TRANSITIONS, Asked, InquiryState, Told, check_inquiry, step
from protocol.bank.ledger import Payment
from protocol.errors import PeerError
from protocol.machine import Effect, State
from protocol.messages import InquiryRequest, PaymentInfo, Verdict
from protocol.refusals import Refusal
from protocol.signatures import Domain, sign
from tests.conformance.machine import MachineConformance
from tests.world import BANK, DAY, NOW, World, alter, seed
from tests.world import world as make_world

WORLD = make_world()
INFO, SIGN = WORLD.info, sign_verdict(WORLD.identity_seed)
ACCEPTED = Payment(INFO.digest, INFO.account, INFO.payment_id, accepted=True, verdict=b"accepting verdict")
REFUSED = Payment(INFO.digest, INFO.account, INFO.payment_id, accepted=False, verdict=b"refusing verdict")
BEFORE = INFO.deposit_before
ASKED = Asked(INFO, None, b"", NOW)


def asked(event: Asked) -> InquiryState:
    state, effects = step(New(), event, SIGN)
    assert effects == ()
    return state


class TestInquiryMachine(MachineConformance):
    table = TRANSITIONS
    state_union = InquiryState
    event_union = Asked
    states = (New(), Told(b"verdict"), Refused(Refusal.PENDING, ""))
    events = (
        ASKED,
        Asked(INFO, None, b"", BEFORE),
        Asked(INFO, ACCEPTED, INFO.digest, NOW),
        Asked(INFO, ACCEPTED, b"", NOW),
        Asked(INFO, REFUSED, b"", NOW),
    )

    def step(self, state: Any, event: Any) -> tuple[State, tuple[Effect, ...]]:
        return step(state, event, SIGN)


@pytest.mark.parametrize("spent_on", [b"", seed("another payment"), INFO.digest], ids=["not", "elsewhere", "here"])
def test_an_unknown_payment_is_pending_until_deposit_before_and_expired_from_then_on(spent_on: bytes) -> None:
    pending = asked(Asked(INFO, None, spent_on, BEFORE - 1))
    assert isinstance(pending, Refused)
    assert pending.refusal == Refusal.PENDING
    told = [asked(Asked(INFO, None, spent_on, now)) for now in (BEFORE, BEFORE + 1, BEFORE + DAY)]
    assert told == [Told(expired_verdict(INFO, SIGN).encode())] * 3


def test_the_verdict_on_a_payment_that_expired_bears_its_deposit_before() -> None:
    verdict = Verdict.decode(expired_verdict(INFO, SIGN).check(WORLD.identity, Domain.VERDICT))
    assert verdict == msgspec.structs.replace(WORLD.verdict(Refusal.PAYMENT_EXPIRED), at=BEFORE)


@pytest.mark.parametrize("now", [NOW, BEFORE, BEFORE + DAY])
def test_a_verdict_that_was_given_is_told_at_any_time(now: int) -> None:
    assert asked(Asked(INFO, ACCEPTED, INFO.digest, now)) == Told(b"accepting verdict")
    assert asked(Asked(INFO, REFUSED, b"", now)) == Told(b"refusing verdict")


@pytest.mark.parametrize("spent_on", [b"", seed("another payment")], ids=["not", "elsewhere"])
def test_of_an_accepted_payment_only_its_own_coins_may_ask(spent_on: bytes) -> None:
    state = asked(Asked(INFO, ACCEPTED, spent_on, NOW))
    assert isinstance(state, Refused)
    assert state.refusal == Refusal.BAD_SPEND_SIGNATURE


# ---------------------------------------------------------------- the question

REQUEST_ID = b"i" * 16


def inquiry(world: World, info: PaymentInfo | None = None) -> InquiryRequest:
    about, coin = info or world.info, world.purse.coins[0]
    proof = sign(world.purse.seeds[0], Domain.INQUIRY, about.digest, REQUEST_ID)
    return InquiryRequest(about.encode(), coin.denomination, coin.serial, proof)


def refusal_of(request: InquiryRequest, request_id: bytes = REQUEST_ID) -> Refusal:
    with pytest.raises(PeerError) as caught:
        check_inquiry(request, request_id, BANK)
    return caught.value.refusal


def test_a_question_with_a_coins_key_passes(world: World) -> None:
    assert check_inquiry(inquiry(world), REQUEST_ID, BANK) == world.info


@pytest.mark.parametrize("field", PaymentInfo.__struct_fields__)
def test_a_question_about_altered_payment_information_is_refused(world: World, field: str) -> None:
    changed = alter(inquiry(world), "info", alter(world.info, field).encode())
    assert refusal_of(changed) is (Refusal.WRONG_BANK if field == "bank" else Refusal.BAD_SIGNATURE)


def test_a_question_is_asked_by_one_coin_in_one_request(world: World) -> None:
    question = inquiry(world)
    assert refusal_of(alter(question, "serial")) is Refusal.BAD_SIGNATURE
    assert refusal_of(alter(question, "proof")) is Refusal.BAD_SIGNATURE
    assert refusal_of(question, b"j" * 16) is Refusal.BAD_SIGNATURE
    assert refusal_of(inquiry(world, alter(world.info, "bank", "south"))) is Refusal.WRONG_BANK
    assert refusal_of(alter(question, "info", b"x")) is Refusal.MALFORMED
