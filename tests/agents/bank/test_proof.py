"""The desk `proof`, and `ecash bank prove`."""

import json
from pathlib import Path

import msgspec
import pytest

from protocol.errors import PeerError
from protocol.messages import PaymentInfo, Signed, payer_digest
from protocol.proof import ProofAnswer, ProofRequest, open_proof
from protocol.refusals import Refusal
from tests.agents.bank.offline import Typed, leave, type_in
from tests.agents.byhand import Caller, Purse
from tests.agents.world import BANK, Town
from tests.world import altered

SALT, CODE = b"s" * 16, "Alice Liddell, second of May"


def payment(keeper: Caller, purse: Purse, amount: int = 13) -> PaymentInfo:
    info = keeper.info(amount, purse)
    digest = payer_digest("sha3-256", SALT, info.payment_id, CODE)
    return msgspec.structs.replace(info, payer_function="sha3-256", payer_digest=digest)


@pytest.fixture
async def paid(keeper: Caller, purse: Purse) -> PaymentInfo:
    """A payment of all coins of the purse."""
    info = payment(keeper, purse)
    assert (await keeper.verdict(keeper.deposit(info, purse))).refusal == ""
    return info


@pytest.fixture
def nobody(founded: Town) -> Caller:
    return Caller(founded, "nobody")


async def test_who_knows_the_payer_code_gets_a_statement_that_anybody_can_check(
    nobody: Caller, paid: PaymentInfo
) -> None:
    answer = await nobody.ask("proof", ProofRequest(paid.payment_id, SALT, CODE))
    signed = Signed.decode(ProofAnswer.decode(answer.check()).proof)
    proof, info, verdict = open_proof(signed, nobody.town.keyset.identity, BANK)
    assert (info, proof.at) == (paid, nobody.town.clock.now())
    assert (verdict.amount, verdict.refusal) == (13, "")
    for field in Signed.__struct_fields__:
        forged = msgspec.structs.replace(signed, **{field: altered(getattr(signed, field))})
        with pytest.raises(PeerError) as caught:
            open_proof(forged, nobody.town.keyset.identity, BANK)
        assert caught.value.refusal is Refusal.BAD_SIGNATURE


async def test_who_does_not_know_it_is_not_told_whether_there_is_such_a_payment(
    nobody: Caller, paid: PaymentInfo
) -> None:
    wrong = [
        ProofRequest(paid.payment_id, SALT, CODE + "!"),
        ProofRequest(paid.payment_id, bytes(16), CODE),
        ProofRequest(b"unknown".ljust(16), SALT, CODE),
    ]
    answers = {await nobody.ask("proof", request) for request in wrong}
    assert len(answers) == 1
    (answer,) = answers
    assert (answer.refusal, answer.body) == (Refusal.NOT_PROVEN, b"")


async def test_a_refused_payment_proves_nothing(nobody: Caller, keeper: Caller, purse: Purse) -> None:
    info = payment(keeper, purse, 12)
    assert (await keeper.verdict(keeper.deposit(info, purse))).refusal == Refusal.AMOUNT_MISMATCH
    assert await nobody.refusal("proof", ProofRequest(info.payment_id, SALT, CODE)) == Refusal.NOT_PROVEN


async def test_what_is_no_request_is_malformed(nobody: Caller) -> None:
    assert await nobody.refusal("proof", b"no request") == Refusal.MALFORMED


# ---------------------------------------------------------------- the command


@pytest.fixture
async def home(founded: Town, paid: PaymentInfo) -> Path:
    """The home of a bank that is not running, and has the payment in its books."""
    return await leave(founded)


def prove(home: Path, *words: object) -> Typed:
    return type_in(home, "prove", *words)


def check(text: str, town: Town, info: PaymentInfo) -> None:
    told = json.loads(text)
    assert told["bank"] == BANK
    assert bytes.fromhex(told["identity"]) == town.keyset.identity
    signed = Signed.decode(bytes.fromhex(told["proof"]))
    assert open_proof(signed, bytes.fromhex(told["identity"]), told["bank"])[1] == info


def test_the_operator_writes_the_statement_from_the_books(
    home: Path, founded: Town, paid: PaymentInfo, tmp_path: Path
) -> None:
    words = (paid.payment_id.hex(), "--salt", SALT.hex(), "--code", CODE)
    code, said, _ = prove(home, *words)
    assert code == 0
    check(said, founded, paid)
    file = tmp_path / "proof.json"
    code, said, _ = prove(home, *words, "--out", str(file))
    assert code == 0
    assert str(file) in said
    check(file.read_text(), founded, paid)


def test_a_wrong_code_and_an_unknown_payment_are_told_alike(home: Path, paid: PaymentInfo) -> None:
    wrong = prove(home, paid.payment_id.hex(), "--salt", SALT.hex(), "--code", "wrong")
    unknown = prove(home, "00" * 16, "--salt", SALT.hex(), "--code", CODE)
    assert wrong == unknown
    assert wrong.code == 1
    assert "The payer code proves no payment of this id." in wrong.complained


@pytest.mark.parametrize("words", [("00", "--salt", "00" * 16), ("00" * 16, "--salt", "zz" * 16)])
def test_what_is_no_number_is_told_in_a_sentence(home: Path, words: tuple[str, ...]) -> None:
    code, _, said = prove(home, *words, "--code", CODE)
    assert code == 1
    assert "32 hexadecimal digits" in said


def test_a_file_that_cannot_be_written_is_told_in_a_sentence(home: Path, paid: PaymentInfo, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    target = tmp_path / "a file" / "proof.json"
    words = (paid.payment_id.hex(), "--salt", SALT.hex(), "--code", CODE, "--out", str(target))
    code, _, said = prove(home, *words)
    assert code == 1
    assert "cannot be written" in said
