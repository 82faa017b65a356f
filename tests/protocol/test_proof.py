from typing import Any

import msgspec
import pytest

from protocol.errors import PeerError
from protocol.messages import HASH_FUNCTIONS, PaymentInfo, Signed, Verdict, payer_digest
from protocol.proof import PaymentProof, ProofRequest, open_proof, proves
from protocol.refusals import Refusal
from protocol.signatures import Domain
from tests.world import BANK, NOW, alter, altered, seed
from tests.world import world as make_world

WORLD = make_world()
SALT, CODE = b"s" * 16, "Alice Liddell"
INFO = WORLD.info
REQUEST = ProofRequest(INFO.payment_id, SALT, CODE)


def paid_with(function: str) -> PaymentInfo:
    digest = payer_digest(function, SALT, INFO.payment_id, CODE)
    return msgspec.structs.replace(INFO, payer_function=function, payer_digest=digest)


def signed_verdict(verdict: Verdict) -> bytes:
    return WORLD.sign_verdict(verdict).encode()


PROOF = PaymentProof(BANK, INFO.encode(), signed_verdict(WORLD.verdict()), NOW)


def statement(proof: PaymentProof, by: bytes = WORLD.identity_seed, domain: Domain = Domain.PROOF) -> Signed:
    return Signed.make(by, domain, proof)


def refusal_of(signed: Signed, identity: bytes = WORLD.identity, bank: str = BANK) -> Refusal:
    with pytest.raises(PeerError) as caught:
        open_proof(signed, identity, bank)
    return caught.value.refusal


# ---------------------------------------------------------------- the code


@pytest.mark.parametrize("function", HASH_FUNCTIONS)
def test_salt_and_code_prove_their_payment(function: str) -> None:
    assert proves(paid_with(function), REQUEST)


@pytest.mark.parametrize("function", HASH_FUNCTIONS)
@pytest.mark.parametrize("field", ProofRequest.__struct_fields__)
def test_a_request_with_one_field_altered_proves_nothing(function: str, field: str) -> None:
    assert not proves(paid_with(function), alter(REQUEST, field))


@pytest.mark.parametrize("field", ["payment_id", "payer_function", "payer_digest"])
def test_a_code_proves_no_other_payment(field: str) -> None:
    assert not proves(alter(paid_with("sha-256"), field), REQUEST)


def test_the_code_of_a_payment_does_not_prove_one_that_copied_its_digest() -> None:
    assert not proves(alter(paid_with("sha-256"), "payment_id", bytes(16)), REQUEST)


def test_a_function_that_nobody_knows_is_refused() -> None:
    with pytest.raises(PeerError) as caught:
        proves(alter(paid_with("sha-256"), "payer_function", "md5"), REQUEST)
    assert caught.value.refusal is Refusal.MALFORMED


@pytest.mark.parametrize("code", ["", "x" * 201])
def test_a_code_has_1_to_200_characters(code: str) -> None:
    with pytest.raises(PeerError) as caught:
        ProofRequest.decode(alter(REQUEST, "code", code).encode())
    assert caught.value.refusal is Refusal.MALFORMED
    assert ProofRequest.decode(alter(REQUEST, "code", "x" * 200).encode()).code == "x" * 200


# ---------------------------------------------------------------- the statement


def test_a_stranger_checks_the_statement_with_the_banks_key_alone() -> None:
    assert open_proof(statement(PROOF), WORLD.identity, BANK) == (PROOF, INFO, WORLD.verdict())


@pytest.mark.parametrize("field", PaymentProof.__struct_fields__)
def test_a_statement_with_one_field_altered_is_refused(field: str) -> None:
    signed = statement(PROOF)
    assert refusal_of(Signed(alter(PROOF, field).encode(), signed.signature)) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("field", Signed.__struct_fields__)
def test_a_statement_with_one_byte_altered_is_refused(field: str) -> None:
    assert refusal_of(alter(statement(PROOF), field)) is Refusal.BAD_SIGNATURE


def test_only_the_banks_own_signature_under_its_own_domain_counts() -> None:
    assert refusal_of(statement(PROOF, by=seed("eve"))) is Refusal.BAD_SIGNATURE
    assert refusal_of(statement(PROOF), identity=altered(WORLD.identity)) is Refusal.BAD_SIGNATURE
    assert refusal_of(statement(PROOF, domain=Domain.VERDICT)) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("field", PaymentInfo.__struct_fields__)
def test_even_the_bank_cannot_state_another_payment_under_an_old_verdict(field: str) -> None:
    other = alter(PROOF, "info", alter(INFO, field).encode())
    assert refusal_of(statement(other)) is (Refusal.WRONG_BANK if field == "bank" else Refusal.PAYMENT_ALTERED)


@pytest.mark.parametrize("field", Verdict.__struct_fields__)
def test_the_verdict_inside_is_checked_too(field: str) -> None:
    verdict = WORLD.sign_verdict(WORLD.verdict())
    forged = Signed(alter(WORLD.verdict(), field).encode(), verdict.signature)
    assert refusal_of(statement(alter(PROOF, "verdict", forged.encode()))) is Refusal.BAD_SIGNATURE


def test_a_refused_payment_is_not_proven() -> None:
    refused = alter(PROOF, "verdict", signed_verdict(WORLD.verdict(Refusal.ALREADY_SPENT)))
    assert refusal_of(statement(refused)) is Refusal.NOT_PROVEN


def test_the_bank_is_the_one_that_is_asked_about() -> None:
    assert refusal_of(statement(PROOF), bank="south") is Refusal.WRONG_BANK
    assert refusal_of(statement(alter(PROOF, "bank", "south"))) is Refusal.WRONG_BANK
    assert refusal_of(statement(alter(PROOF, "bank", "south")), bank="south") is Refusal.WRONG_BANK


@pytest.mark.parametrize(("field", "value"), [("info", b"x"), ("verdict", b"x")])
def test_what_is_no_statement_is_malformed(field: str, value: Any) -> None:
    assert refusal_of(statement(alter(PROOF, field, value))) is Refusal.MALFORMED
