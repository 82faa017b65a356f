"""Payouts by ACH, as the operator types them: `ecash bank ach …`."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from agents.bank.home import settings_of
from agents.bank.store import DestinationRow
from agents.bank.transfers import next_weekday
from agents.home import save_settings
from protocol.payout import PayoutRequest
from tests.agents.bank.offline import leave, type_in
from tests.agents.byhand import Caller

AGREED: Final = {
    "ach_destination": "091000019",
    "ach_destination_name": "FIRST BANK",
    "ach_origin": "123456780",
    "ach_company_name": "ECASH BANK",
    "ach_company_id": "1234567890",
    "ach_odfi": "09100001",
}
SHOP: Final = DestinationRow("021000021", "12-345A", "checking", "The Bookshop")
THERE: Final = ("--routing", "322271627", "--number", "99", "--kind", "savings", "--holder", "Farm & Sons")


@pytest.fixture
async def home(keeper: Caller) -> Path:
    """The home of a bank that owes payouts 1 and 2, of 0.10 and 0.25; 0.65 are left in account 1002."""
    books = keeper.town.books
    assert keeper.town.shop_number == 1002
    await books.credit(1002, 100, "takings")
    await books.set_destination(1002, SHOP)
    for amount in (10, 25):
        assert await keeper.refusal("payout", PayoutRequest(amount, 0)) == ""
    home = await leave(keeper.town)
    change(home, **AGREED)
    return home


@pytest.fixture
def exported(home: Path, tmp_path: Path) -> Path:
    """The file with both of them."""
    path = tmp_path / "payouts.ach"
    assert type_in(home, "ach", "export", "--out", path).code == 0
    return path


def change(home: Path, **settings: str) -> None:
    save_settings(home, "bank", msgspec.structs.replace(settings_of(home), **settings))


def balance(home: Path) -> int:
    rows: list[dict[str, Any]] = type_in(home, "accounts", "--json").json
    return next(int(row["balance"]) for row in rows if row["account"] == 1002)


def states(home: Path) -> dict[int, str]:
    return {row["number"]: row["state"] for row in type_in(home, "ach", "list", "--json").json}


def settled(folder: Path, *lines: str) -> Path:
    path = folder / "settled.csv"
    path.write_text("trace,amount_cents,settled_on\n" + "".join(f"{line}\n" for line in lines))
    return path


def returned(file: Path, trace: int, code: str) -> Path:
    """What comes back when the credit with this trace number in this file cannot be booked there."""
    lines = file.read_text().splitlines()
    (entry,) = (line for line in lines if line[0] == "6" and int(line[87:94]) == trace)
    totals = f"{int(entry[3:11]):010}{0:012}{int(entry[29:39]):012}"
    records = [
        *lines[:2],
        f"621{entry[3:78]}1{entry[79:]}",
        f"799{code}{entry[79:94]}",
        f"8220{2:06}{totals}",
        f"9{1:06}{1:06}{2:08}{totals}",
    ]
    path = file.with_name("returns.ach")
    path.write_text("".join(f"{record:94}\n" for record in records))
    return path


# ---------------------------------------------------------------- where payouts go


def test_payouts_that_are_not_exported_follow_the_merchants_account(home: Path, tmp_path: Path) -> None:
    typed = type_in(home, "ach", "account", 1002, *THERE)
    assert typed.code == 0
    assert "Farm & Sons" in typed.said
    assert type_in(home, "ach", "export", "--out", tmp_path / "file").code == 0
    entries = [line for line in (tmp_path / "file").read_text().splitlines() if line[0] == "6"]
    assert [line[:12] for line in entries] == ["632322271627"] * 2
    told = type_in(home, "ach", "account", 1002, *THERE, "--json").json
    assert told == {
        "account": 1002,
        "routing": "322271627",
        "number": "99",
        "kind": "savings",
        "holder": "Farm & Sons",
    }


@pytest.mark.parametrize(
    ("account", "words", "complaint"),
    [
        (4711, (), "4711"),
        (1002, ("--routing", "322271628"), "check digit"),
        (1002, ("--kind", "bitcoin"), "checking or savings"),
        (1002, ("--holder", "Zoë"), "account holder"),
    ],
)
def test_a_destination_that_cannot_be_is_told_in_a_sentence(
    home: Path, account: int, words: tuple[str, ...], complaint: str
) -> None:
    typed = type_in(home, "ach", "account", account, *THERE, *words)
    assert typed.code == 1
    assert complaint in typed.complained


# ---------------------------------------------------------------- files out


def test_payouts_are_in_one_file_only_which_can_be_written_again(home: Path, exported: Path, tmp_path: Path) -> None:
    assert states(home) == {1: "exported", 2: "exported"}
    entries = [line for line in exported.read_text().splitlines() if line[0] == "6"]
    assert [(int(line[87:]), int(line[29:39]), line[39:54].strip()) for line in entries] == [
        (1, 10, "PAYOUT 1"),
        (2, 25, "PAYOUT 2"),
    ]
    typed = type_in(home, "ach", "export", "--out", tmp_path / "none")
    assert (typed.code, "No payout is queued" in typed.said) == (0, True)
    assert type_in(home, "ach", "export", "--json").json == {"file": None}
    assert not (tmp_path / "none").exists()
    again = tmp_path / "again"
    assert type_in(home, "ach", "export", "--file", 1, "--out", again, "--json").json == {
        "file": 1,
        "path": str(again),
    }
    assert again.read_bytes() == exported.read_bytes()
    assert exported.stat().st_mode & 0o777 == 0o600


def test_a_file_has_a_name_of_its_own_unless_told_otherwise(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = type_in(home, "ach", "export")
    assert "ACH file 1 is in payouts-1.ach." in typed.said
    assert (tmp_path / "payouts-1.ach").read_bytes().startswith(b"101 091000019")


def test_a_file_that_could_not_be_written_can_be_had_again(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    typed = type_in(home, "ach", "export", "--out", tmp_path / "a file" / "payouts.ach")
    assert typed.code == 1
    assert "ecash bank ach export --file 1" in typed.complained
    assert type_in(home, "ach", "export", "--file", 1, "--out", tmp_path / "good").code == 0


def test_a_file_that_was_never_written_is_told(home: Path) -> None:
    typed = type_in(home, "ach", "export", "--file", 7)
    assert (typed.code, "there is no ACH file 7" in typed.complained) == (1, True)


@pytest.mark.parametrize("name", AGREED)
def test_what_must_be_agreed_first_is_told_and_nothing_is_exported(home: Path, name: str) -> None:
    change(home, **{name: ""})
    typed = type_in(home, "ach", "export")
    assert typed.code == 1
    assert f"bank.toml has no {name}" in typed.complained
    change(home, **{name: "ü"})
    typed = type_in(home, "ach", "export")
    assert typed.code == 1
    assert "bank.toml" in typed.complained
    assert states(home) == {1: "queued", 2: "queued"}


@pytest.mark.parametrize("words", [("export",), ("account", 1002, *THERE)])
def test_only_dollars_go_by_ach(home: Path, words: tuple[object, ...]) -> None:
    change(home, currency="EUR")
    typed = type_in(home, "ach", *words)
    assert typed.code == 1
    assert "moves USD only" in typed.complained


# ---------------------------------------------------------------- files in


def test_a_settlement_is_booked_once(home: Path, exported: Path, tmp_path: Path) -> None:
    file = settled(tmp_path, "1,10,2026-11-24", "2,25,2026-11-24")
    typed = type_in(home, "ach", "import", file)
    assert typed.code == 0
    assert typed.said.splitlines() == [
        "Payout 1 of 0.10 USD is settled.",
        "Payout 2 of 0.25 USD is settled.",
        "2 of 2 lines were new.",
    ]
    assert states(home) == {1: "settled", 2: "settled"}
    typed = type_in(home, "ach", "import", file)
    assert typed.code == 0
    assert "Payout 1 of 0.10 USD was booked as settled before." in typed.said
    assert "0 of 2 lines were new." in typed.said
    assert balance(home) == 65


def test_a_return_is_credited_once_even_after_the_settlement(home: Path, exported: Path, tmp_path: Path) -> None:
    assert type_in(home, "ach", "import", settled(tmp_path, "2,25,2026-11-24")).code == 0
    file = returned(exported, 2, "R02")
    typed = type_in(home, "ach", "import", file)
    assert typed.code == 0
    assert "Payout 2 of 0.25 USD is returned (R02 Account closed): the account is credited." in typed.said
    again = type_in(home, "ach", "import", file, "--json")
    assert (again.code, [row["outcome"] for row in again.json]) == (0, ["known"])
    assert states(home) == {1: "exported", 2: "returned"}
    assert balance(home) == 90
    shown = type_in(home, "ach", "list").said
    assert "returned" in shown


def test_a_line_that_does_not_fit_is_told_and_the_others_are_booked(home: Path, exported: Path, tmp_path: Path) -> None:
    file = settled(tmp_path, "1,11,2026-11-24", "2,25,2026-11-24", "9,1,2026-11-24")
    typed = type_in(home, "ach", "import", file)
    assert typed.code == 1
    assert "Payout 1 of 0.11 USD is not settled: " in typed.said
    assert "there is no payout 9" in typed.said
    assert "1 of 3 lines were new." in typed.said
    assert states(home) == {1: "exported", 2: "settled"}


def test_what_was_never_exported_neither_settles_nor_comes_back(home: Path, tmp_path: Path) -> None:
    typed = type_in(home, "ach", "import", settled(tmp_path, "1,10,2026-11-24"), "--json")
    assert typed.code == 1
    assert [row["outcome"] for row in typed.json] == ["refused"]
    assert states(home) == {1: "queued", 2: "queued"}


def test_a_file_with_a_fault_books_nothing(home: Path, exported: Path, tmp_path: Path) -> None:
    typed = type_in(home, "ach", "import", settled(tmp_path, "1,10,2026-11-24", "2,25,yesterday"))
    assert typed.code == 1
    assert "line 3" in typed.complained
    assert states(home) == {1: "exported", 2: "exported"}


# ---------------------------------------------------------------- dates


@pytest.mark.parametrize(
    ("day", "effective"), [(20, 23), (21, 23), (22, 23), (23, 24), (26, 27)], ids=["Fri", "Sat", "Sun", "Mon", "Thu"]
)
def test_money_shall_arrive_on_the_next_weekday(day: int, effective: int) -> None:
    for hour in (0, 23):
        at = int(datetime(2026, 11, day, hour, 59, tzinfo=UTC).timestamp() * 1000)
        assert next_weekday(at) == date(2026, 11, effective)
