"""Proof files: everything in them is checked, and nothing in them is trusted."""

import json
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from agents.address import BankAddress
from agents.cli import app
from agents.proof import Line, Payer, ProofFile, check_proof, open_lines, read_proof, write_proof
from broker.address import BrokerUrl
from protocol.keyset import fingerprint
from protocol.messages import Signed, order_digest
from protocol.proof import PaymentProof
from protocol.signatures import Domain
from tests.world import BANK, NOW, PAYER, alter, altered, world

WORLD = world()
VERDICT = WORLD.sign_verdict(WORLD.verdict()).encode()
STATEMENT = Signed.make(
    WORLD.identity_seed, Domain.PROOF, PaymentProof(BANK, WORLD.info.encode(), VERDICT, NOW)
).encode()
ADDRESS = BankAddress(BANK, BrokerUrl("127.0.0.1", 1883), fingerprint(WORLD.identity))
PROOF = ProofFile(
    bank=BANK,
    identity=WORLD.identity.hex(),
    proof=STATEMENT.hex(),
    address=str(ADDRESS),
    payer=Payer(PAYER.function, PAYER.salt.hex(), PAYER.code),
    order=open_lines(WORLD.payreq.salt, WORLD.payreq.order, {0}),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_proof(tmp_path / "proof.json", PROOF)
    return tmp_path / "proof.json"


def verify(path: Path, *words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["verify", str(path), *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def refused(path: Path, *words: str) -> str:
    """The sentence with which a file is refused."""
    code, said, complained = verify(path, *words)
    assert (code, said) == (1, "")
    assert complained.startswith("error: ")
    return complained


def test_a_proof_holds_and_is_told(file: Path) -> None:
    code, said, _ = verify(file)
    assert code == 0
    for part in ("8.00 USD", WORLD.payreq.order[0], "(kept back)", PAYER.code, fingerprint(WORLD.identity)):
        assert part in said.replace("\n", "")
    assert WORLD.payreq.order[1] not in said
    assert "the key is the one that the address pins" in verify(file, "--bank", str(ADDRESS))[1].replace("\n", " ")


def test_a_proof_is_told_as_json(file: Path) -> None:
    told = json.loads(verify(file, "--json", "--bank", str(ADDRESS))[1])
    assert (told["amount"], told["currency"], told["account"], told["pinned"]) == (800, "USD", 1001, True)
    assert told["order"] == [WORLD.payreq.order[0], None]
    assert json.loads(verify(file, "--json")[1])["pinned"] is False


def test_what_the_operator_writes_verifies_too(tmp_path: Path) -> None:
    """`ecash bank prove` writes the first three fields."""
    bare = {"bank": BANK, "identity": WORLD.identity.hex(), "proof": STATEMENT.hex()}
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    code, said, _ = verify(tmp_path / "bare.json")
    assert code == 0
    assert "  payer code" not in said


def fields_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all texts in JSON's values."""
    if isinstance(value, str):
        return [path]
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return [found for key, one in pairs for found in fields_of(one, (*path, key))]


RAW = msgspec.to_builtins(PROOF)


@pytest.mark.parametrize("path", fields_of(RAW), ids=lambda path: ".".join(map(str, path)))
def test_a_proof_with_one_field_altered_is_refused(path: tuple[Any, ...], tmp_path: Path) -> None:
    changed = json.loads(json.dumps(RAW))
    at = changed
    for key in path[:-1]:
        at = at[key]
    text = at[path[-1]]
    hexadecimal = len(text) > 31 and set(text) <= set("0123456789abcdef")
    at[path[-1]] = altered(bytes.fromhex(text)).hex() if hexadecimal else altered(text)
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    refused(tmp_path / "changed.json")


def test_every_field_is_altered_there() -> None:
    assert len(fields_of(RAW)) == 4 + 3 + 2 + 1


def test_a_proof_by_another_key_than_the_pinned_one_is_refused(file: Path) -> None:
    other = ADDRESS._replace(fingerprint="0" * 64)
    assert "pins" in refused(file, "--bank", str(other))
    assert "pins" in refused(file, "--bank", str(ADDRESS._replace(bank="south")))


def test_a_refused_payment_is_not_proven() -> None:
    verdict = WORLD.sign_verdict(WORLD.verdict("bad_coin")).encode()
    statement = PaymentProof(BANK, WORLD.info.encode(), verdict, NOW)
    signed = Signed.make(WORLD.identity_seed, Domain.PROOF, statement).encode()
    with pytest.raises(ValueError, match="the payment was refused"):
        check_proof(alter(PROOF, "proof", signed.hex()))


def test_a_salt_does_not_swallow_the_beginning_of_a_line() -> None:
    opened = PROOF.order[0]
    moved = Line(salt=opened.salt + opened.text[:2].encode().hex(), text=opened.text[2:])
    with pytest.raises(ValueError, match="not 32"):
        check_proof(alter(PROOF, "order", (moved, PROOF.order[1])))


def test_two_hashes_do_not_pass_as_one() -> None:
    hidden = open_lines(WORLD.payreq.salt, WORLD.payreq.order, ())
    with pytest.raises(ValueError, match="not 32"):
        check_proof(alter(PROOF, "order", (Line(hash=hidden[0].hash + hidden[1].hash),)))


@pytest.mark.parametrize(
    "line", [Line(), Line(hash="zz" * 32), Line(text="1 A novel"), Line(hash="00" * 32, salt="00" * 32, text="x")]
)
def test_a_line_is_opened_or_kept_back(line: Line) -> None:
    with pytest.raises(ValueError, match="line"):
        check_proof(alter(PROOF, "order", (line, PROOF.order[1])))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff" * 5000,
        b"[" * 100_000,
        b'{"bank":' * 50_000,
        b'{"order":' + b"[" * 100_000,
        b'{"payer":' * 50_000,
        b'{"bank":"' + b"a" * (1 << 20) + b'"}',
        b'{"bank":"\\ud800","identity":"","proof":""}',
        b'{"bank":"n","identity":"","proof":"","more":1}',
        b"null",
        json.dumps({"bank": BANK, "identity": "00" * 32, "proof": "00"}).encode(),
        json.dumps({"bank": BANK, "identity": "\u0663" * 64, "proof": STATEMENT.hex()}).encode(),
        json.dumps(RAW | {"address": "nowhere"}).encode(),
        json.dumps(RAW | {"payer": {"function": "md5", "salt": PAYER.salt.hex(), "code": PAYER.code}}).encode(),
        json.dumps(RAW | {"order": [{}] * 51}).encode(),
    ],
    ids=range(15),
)
def test_hostile_files_are_told_in_a_sentence(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "hostile.json").write_bytes(data)
    assert len(refused(tmp_path / "hostile.json")) < 1000


def test_a_file_that_cannot_be_read_or_written_is_told(tmp_path: Path, file: Path) -> None:
    refused(tmp_path / "none.json")
    with pytest.raises(ValueError, match="cannot be written"):
        write_proof(file, PROOF)
    with pytest.raises(ValueError, match="cannot be written"):
        write_proof(tmp_path / "no folder" / "proof.json", PROOF)
    assert read_proof(file) == PROOF
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_a_terminal_would_obey_is_not_shown(tmp_path: Path) -> None:
    order = ("\x1b[2J[bold]free[/]",)
    info = alter(WORLD.info, "order_digest", order_digest(WORLD.payreq.salt, order))
    verdict = WORLD.sign_verdict(WORLD.verdict(info=info)).encode()
    signed = Signed.make(WORLD.identity_seed, Domain.PROOF, PaymentProof(BANK, info.encode(), verdict, NOW))
    proof = ProofFile(
        BANK, WORLD.identity.hex(), signed.encode().hex(), order=open_lines(WORLD.payreq.salt, order, {0})
    )
    write_proof(tmp_path / "odd.json", proof)
    code, said, _ = verify(tmp_path / "odd.json")
    assert code == 0
    assert "\ufffd[2J[bold]free[/]" in said
