"""`ecash bank keys | rotate | revoke`, typed; and the audit's command."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.bank.cli import app
from agents.bank.home import keys_of
from agents.home import locked
from tests.agents.bank.offline import leave, type_in
from tests.agents.byhand import Caller, Purse
from tests.agents.world import Town


@pytest.fixture
async def home(founded: Town) -> Path:
    return await leave(founded)


@pytest.fixture
async def used(founded: Town, keeper: Caller, purse: Purse) -> Path:
    """The home of a bank that has minted 13 and taken it back as a deposit."""
    assert (await keeper.verdict(keeper.paying(13, purse))).refusal == ""
    return await leave(founded)


def ids(home: Path, state: str) -> list[str]:
    return [one["id"] for one in type_in(home, "keys", "--json").json["denominations"] if one["state"] == state]


def test_keys_are_listed_with_their_states(home: Path) -> None:
    told = type_in(home, "keys", "--json").json
    assert told["keyset"] == 0
    assert [(one["value"], one["state"]) for one in told["denominations"]] == [
        (value, "minted") for value in (1, 2, 4, 8, 16)
    ]
    code, said, _ = type_in(home, "keys")
    assert code == 0
    assert said.count("minted") == 5


def test_rotating_ahead_and_again_after_that(home: Path) -> None:
    assert type_in(home, "rotate", "--in-days", "7", "--json").json["keyset"] == 1
    assert (len(ids(home, "minted")), len(ids(home, "announced"))) == (5, 5)
    code, said, _ = type_in(home, "rotate", "--envelope")
    assert code == 0
    assert "Keyset 2 has 5 new keys" in said
    assert len(ids(home, "minted")) == 10


def test_a_stolen_key_is_revoked_by_the_beginning_of_its_id(home: Path) -> None:
    stolen = ids(home, "minted")[0]
    told = type_in(home, "revoke", stolen[:8].upper(), "--yes", "--json").json
    assert (told["revoked"], len(told["new"]), told["private_keys_deleted"]) == ([stolen], 1, 1)
    assert ids(home, "revoked") == [stolen]
    assert bytes.fromhex(stolen) not in keys_of(home).denominations
    assert type_in(home, "revoke", stolen, "--yes").code == 1


def test_all_keys_of_a_value_are_revoked(home: Path) -> None:
    assert len(type_in(home, "revoke", "--value", "0.16", "--yes", "--json").json["revoked"]) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "name keys"),
        (("--value", "0.03"), "name keys"),
        (("0123",), "8 digits"),
        (("0" * 8, "--value", "1"), "type"),
    ],
)
def test_what_names_no_key_revokes_nothing(home: Path, words: tuple[str, ...], sentence: str) -> None:
    code, _, complained = type_in(home, "revoke", *words, "--yes")
    assert code == 1
    assert sentence in complained
    assert type_in(home, "keys", "--json").json["keyset"] == 0


def test_a_revocation_is_asked_for(home: Path) -> None:
    words = ["revoke", "--value", "0.16", "--home", str(home), "--json"]
    assert CliRunner().invoke(app, words, input="n\n").exit_code == 1
    assert not ids(home, "revoked")
    assert CliRunner().invoke(app, words, input="y\n").exit_code == 0
    assert len(ids(home, "revoked")) == 1


def test_two_operators_do_not_change_keys_at_once(home: Path) -> None:
    with locked(home / "keys"):
        code, _, complained = type_in(home, "rotate")
    assert code == 1
    assert "in use by another process" in complained


def test_a_home_that_is_none_is_told_in_a_sentence(tmp_path: Path) -> None:
    for command in ("keys", "rotate", "audit"):
        code, _, complained = type_in(tmp_path, command)
        assert code == 1
        assert "ecash bank init" in complained


# ---------------------------------------------------------------- the audit


def test_the_audit_verifies_signatures_and_tells_what_is_outstanding(used: Path) -> None:
    told = type_in(used, "audit", "--json").json
    assert (told["ok"], told["verdicts"], told["spendings"]) == (True, 1, 3)
    assert told["totals"]["USD"]["clearing"] == 0
    assert sorted((one["value"], one["minted"], one["outstanding"]) for one in told["denominations"].values()) == [
        (1, 1, 0),
        (4, 1, 0),
        (8, 1, 0),
    ]
    code, said, _ = type_in(used, "audit", "--sample", "1")
    assert code == 0
    assert "1 on verdicts, 1 on spent coins" in said
    assert "0 on verdicts, 0 on spent coins" in type_in(used, "audit", "--sample", "0").said


def test_the_audit_finds_verdicts_that_another_key_signed(used: Path) -> None:
    (used / "keys/identity").write_bytes(bytes(32))
    code, said, _ = type_in(used, "audit")
    assert code == 1
    assert "the verdict is not signed by the bank" in said


def test_every_command_has_an_example() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        said = CliRunner().invoke(app, [name, "--help"])
        assert said.exit_code == 0
        assert f"Example: ecash bank {name}" in said.stdout, name
