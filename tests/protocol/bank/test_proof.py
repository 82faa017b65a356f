from typing import Any

import msgspec
import pytest

from protocol.bank.desk import New, Refused
from protocol.bank.ledger import Payment
from protocol.bank.proof import TRANSITIONS, Asked, ProofState, Proven, step
from protocol.machine import Effect, State
from protocol.messages import HASH_FUNCTIONS, PaymentInfo, Signed, payer_digest
from protocol.proof import ProofRequest, open_proof
from protocol.refusals import Refusal
from tests.conformance.machine import MachineConformance
from tests.world import BANK, NOW, alter
from tests.world import world as make_world

WORLD = make_world()
SALT, CODE = b"s" * 16, "Alice Liddell, second of May"


def info_of(function: str = "sha-256", code: str = CODE, account: int = WORLD.info.account) -> PaymentInfo:
    digest = payer_digest(function, SALT, WORLD.info.payment_id, code)
    return msgspec.structs.replace(WORLD.info, payer_function=function, payer_digest=digest, account=account)


def accepted(info: PaymentInfo) -> Payment:
    verdict = WORLD.sign_verdict(WORLD.verdict(info=info)).encode()
    return Payment(info.digest, info.account, info.payment_id, accepted=True, verdict=verdict, info=info.encode())


INFO = info_of()
REQUEST = ProofRequest(INFO.payment_id, SALT, CODE)
ASKED = Asked(REQUEST, (accepted(INFO),), NOW + 7)
UNKNOWN = Asked(REQUEST, (), NOW + 7)


class TestProofMachine(MachineConformance):
    table = TRANSITIONS
    state_union = ProofState
    event_union = Asked
    states = (New(), Proven(b"statement"), Refused(Refusal.NOT_PROVEN, ""))
    events = (ASKED, UNKNOWN)

    def step(self, state: Any, event: Any) -> tuple[State, tuple[Effect, ...]]:
        return step(state, event, BANK, WORLD.identity_seed)


def asked(event: Asked) -> ProofState:
    state, effects = step(New(), event, BANK, WORLD.identity_seed)
    assert effects == ()
    return state


def proven(event: Asked) -> Signed:
    state = asked(event)
    assert isinstance(state, Proven)
    return Signed.decode(state.proof)


def test_who_knows_the_payer_code_gets_a_statement_that_a_stranger_can_check() -> None:
    proof, info, verdict = open_proof(proven(ASKED), WORLD.identity, BANK)
    assert (proof.bank, proof.at, info) == (BANK, NOW + 7, INFO)
    assert (verdict.refusal, verdict.amount, verdict.digest) == ("", INFO.amount, INFO.digest)


@pytest.mark.parametrize("function", HASH_FUNCTIONS)
def test_the_hash_function_is_the_one_that_came_with_the_payment(function: str) -> None:
    info = info_of(function)
    assert open_proof(proven(alter(ASKED, "payments", (accepted(info),))), WORLD.identity, BANK)[1] == info


@pytest.mark.parametrize("index", [0, 1, 2])
def test_of_several_payments_with_one_id_the_one_whose_code_it_is_is_proven(index: int) -> None:
    payments = [accepted(info_of(code=f"somebody {n}", account=2000 + n)) for n in range(3)]
    payments[index] = accepted(INFO)
    assert open_proof(proven(alter(ASKED, "payments", tuple(payments))), WORLD.identity, BANK)[1] == INFO


WRONG = {
    "an unknown payment": UNKNOWN,
    "a wrong code": alter(ASKED, "request", alter(REQUEST, "code")),
    "a wrong salt": alter(ASKED, "request", alter(REQUEST, "salt")),
    "the code of another payment": alter(ASKED, "request", alter(REQUEST, "payment_id")),
}


@pytest.mark.parametrize("event", WRONG.values(), ids=WRONG)
def test_whatever_is_wrong_the_refusal_is_the_same(event: Asked) -> None:
    state = asked(event)
    assert state == asked(UNKNOWN)
    assert isinstance(state, Refused)
    assert (state.refusal, state.evidence, state.lasting) == (Refusal.NOT_PROVEN, (), False)
