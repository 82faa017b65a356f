from pathlib import Path

import pytest

from agents.bank.audit import Report, Totals
from tests.agents.bank.audited import COINS_2, COINS_8, audited
from tests.conformance.bookkeeping import h


async def test_sound_books_have_no_fault_and_balance(copy: Path) -> None:
    report = await audited(copy)
    sheet = Totals(cash=-320, accounts=263, clearing=20, commission=15, outstanding=22, minted=58, deposited=36)
    assert report == Report({"EUR": sheet}, [], 0, 0)
    assert report.ok


async def test_empty_books_have_no_fault(tmp_path: Path) -> None:
    report = await audited(tmp_path / "books.db")
    assert report.ok
    assert report.totals["EUR"].cash == 0


TAMPERINGS = {
    # entries
    "an amount is changed": (
        "UPDATE entry SET amount = amount + 5 WHERE journal = 2 AND ledger = 'account/1001'",
        "journal 2: the entries sum to 5 EUR, not 0",
    ),
    "two amounts are changed alike": (
        f"UPDATE entry SET amount = amount * 2 WHERE journal = 2 AND ledger IN ('account/1001', '{COINS_8}')",
        f"journal 2: {COINS_8} moves by 48, the coins are worth 24",
    ),
    "a commission is moved to the merchant": (
        "UPDATE entry SET amount = amount - 9 + 18 * (ledger = 'account/1002') "
        "WHERE journal = 4 AND ledger IN ('account/1002', 'commission/EUR')",
        f"payment {h('p').hex()}: of 10, 18 were credited to account 1002, -8 kept",
    ),
    "a commission is given": (
        "UPDATE entry SET amount = amount - 9 + 18 * (ledger = 'account/1002') "
        "WHERE journal = 4 AND ledger IN ('account/1002', 'commission/EUR')",
        "journal 4: -8 in commission/EUR, a commission that was given",
    ),
    "an account is overdrawn": (
        "UPDATE entry SET amount = amount - 90 + 180 * (ledger = 'commission/EUR') "
        "WHERE journal = 2 AND ledger IN ('account/1001', 'commission/EUR')",
        "ledger account/1001: the balance is -20",
    ),
    "an entry is deleted": (
        "DELETE FROM entry WHERE journal = 4 AND ledger = 'account/1002'",
        "journal 4: the entries sum to -9 EUR, not 0",
    ),
    "a deposit is credited to another": (
        "UPDATE entry SET ledger = 'account/1001' WHERE journal = 4 AND ledger = 'account/1002'",
        f"payment {h('p').hex()}: of 10, 0 were credited to account 1002, 1 kept",
    ),
    "an entry is in a ledger that does not exist": (
        "UPDATE entry SET ledger = 'account/4711' WHERE journal = 5 AND ledger = 'account/1002'",
        "journal 5: +7 in ledger account/4711, which the bank does not have",
    ),
    "an entry is in another currency": (
        "UPDATE entry SET ledger = 'commission/USD' WHERE journal = 5 AND ledger = 'commission/EUR'",
        "journal 5: the entries sum to 1 USD, not 0",
    ),
    "an entry is moved to another journal": (
        "UPDATE entry SET journal = 99 WHERE journal = 5 AND ledger = 'account/1002'",
        "journal 99: missing, but other rows name it",
    ),
    "a credit is invented": (
        "INSERT INTO entry VALUES ('account/1003', 7, 1000), ('cash/EUR', 7, -1000)",
        "journal 7: +1000 in account/1003 without a cause",
    ),
    "a credit out of cash is hidden in a withdrawal": (
        "INSERT INTO entry VALUES ('account/1003', 3, 1000), ('cash/EUR', 3, -1000)",
        "journal 3: -1000 in cash/EUR without a cause",
    ),
    # folded balances
    "a folded balance is changed": (
        "UPDATE balance SET amount = amount + 1 WHERE ledger = 'account/1001'",
        "folded balance of account/1001: 71, but the entries sum to 70",
    ),
    "a folded balance stands for fewer entries": (
        "UPDATE balance SET through = 2 WHERE ledger = 'account/1001'",
        "folded balance of account/1001: 70, but the entries sum to 75",
    ),
    "a folded balance stands for entries to come": (
        "UPDATE balance SET through = 1000 WHERE ledger = 'account/1001'",
        "folded balance of account/1001: 70 through journal 1000, which is missing",
    ),
    "a folded balance is another's": (
        "UPDATE balance SET ledger = 'account/1002' WHERE ledger = 'account/1001'",
        "folded balance of account/1002: 70, but the entries sum to 0",
    ),
    # journal
    "a posting is deleted": ("DELETE FROM journal WHERE id = 4", "journal 4 to 4: missing"),
    "the last posting is deleted": ("DELETE FROM journal WHERE id = 21", "journal 21: missing, but other rows name it"),
    "a posting gets another number": ("UPDATE journal SET id = 30 WHERE id = 21", "journal 21 to 29: missing"),
    "a withdrawal is called a funding": (
        "UPDATE journal SET kind = 'funding' WHERE id = 3",
        "journal 3: a funding with 0 references (account/1001 -5;",
    ),
    "a funding is called a deposit": (
        "UPDATE journal SET kind = 'deposit' WHERE id = 8",
        "funding 'statement 2': 50 for account 1002, but journal 8 is a deposit",
    ),
    "a posting is of another request": (
        "UPDATE journal SET request_id = zeroblob(16) WHERE id = 2",
        "journal 2: a withdraw without its answer (account/1001 -25;",
    ),
    # answers
    "an answer is deleted": (
        "DELETE FROM answer WHERE journal = 4",
        f"journal 4: a deposit without its answer (account/1002 +9; {COINS_2} -2; {COINS_8} -8; commission/EUR +1)",
    ),
    "an answer is to another request": (
        "UPDATE answer SET request_id = zeroblob(16) WHERE journal = 4",
        f"answer {bytes(16).hex()}: journal 4 is not of this request",
    ),
    "an answer is of another posting": ("UPDATE answer SET journal = 5 WHERE journal = 4", "journal 5 is not of this"),
    # accounts
    "an account is in another currency": (
        "UPDATE account SET currency = 'USD' WHERE number = 1001",
        "journal 2: the entries sum to -25 USD, not 0",
    ),
    "an account has another number": (
        "UPDATE account SET number = 1009 WHERE number = 1001",
        "journal 1: +100 in ledger account/1001, which the bank does not have",
    ),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_tampered_books_are_named_with_row_and_amount(copy: Path, tampering: str) -> None:
    statement, named = TAMPERINGS[tampering]
    report = await audited(copy, statement)
    assert not report.ok
    assert any(named in fault for fault in report.faults), report.faults


async def test_a_currency_out_of_balance_is_named(copy: Path) -> None:
    report = await audited(copy, "UPDATE entry SET amount = amount - 3 WHERE ledger = 'cash/EUR' AND journal = 1")
    assert "EUR: 323 in cash, but accounts, clearing, commission and e-cash sum to 320" in report.faults
