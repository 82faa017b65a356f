import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agents.bank.audit import Report, Totals, audit
from agents.bank.sqlite import SqliteBooks
from agents.bank.store import Books
from protocol.bank.ledger import Claim, coins_ledger
from protocol.refusals import Refusal
from tests.conformance.bookkeeping import (
    DENOMINATIONS,
    VALUES,
    ManualClock,
    coin,
    deposit,
    h,
    payment,
    request,
    rich_client,
    shop_of,
    withdrawal,
)

ALICE, SHOP = 1001, 1002
EIGHT, TWO = (f"X'{VALUES[value].hex()}'" for value in (8, 2))
COINS_8, COINS_2 = (coins_ledger(VALUES[value]) for value in (8, 2))
P, Q, R = (f"X'{h(name).hex()}'" for name in "pqr")


async def _business(books: Books) -> None:
    """Journal 1 to 8: a funding, two withdrawals, two deposits, a refused one, a claimed account, a funding."""
    await rich_client(books, 100)
    await shop_of(books)
    bob = await books.open_account("client", "bob", "Bob", "EUR", b"", h("invitation"))
    for posting in (
        withdrawal(ALICE, "a", "b", "c", value=8),
        withdrawal(ALICE, "d", "e", value=2),
        deposit(SHOP, "p", coin("x", 8), coin("y", 2)),
        deposit(SHOP, "q", coin("z", 8)),
        request("deposit", payment=payment(SHOP, "r", 8, Refusal.BAD_COIN)),
        request("account", claim=Claim(bob.number, h("bob's key"))),
    ):
        await books.post(posting)
    await books.credit(SHOP, 50, "statement 2")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "books.db"

    async def make() -> None:
        async with SqliteBooks(path, ManualClock()) as books:
            await _business(books)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agents.bank.posting.FOLD_AFTER", 0)
        asyncio.run(make())
    return path


async def _audit(path: Path, *statements: str) -> Report:
    """Change the database behind the bank's back, and audit it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            assert db.execute(statement).rowcount > 0
    async with SqliteBooks(path, ManualClock()) as books:
        return audit(await books.snapshot(), DENOMINATIONS)


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(finished, tmp_path))


async def test_sound_books_have_no_fault_and_balance(copy: Path) -> None:
    report = await _audit(copy)
    sheet = Totals(cash=-150, accounts=136, commission=4, outstanding=10, minted=28, deposited=18)
    assert report == Report({"EUR": sheet}, [])
    assert report.ok


async def test_empty_books_have_no_fault(tmp_path: Path) -> None:
    report = await _audit(tmp_path / "books.db")
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
    "the last posting is deleted": ("DELETE FROM journal WHERE id = 8", "journal 8: missing, but other rows name it"),
    "a posting gets another number": ("UPDATE journal SET id = 12 WHERE id = 8", "journal 8 to 11: missing"),
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
    # issued
    "an issued coin is deleted": (
        f"DELETE FROM issued WHERE denomination = {EIGHT} AND blinded_hash = X'{h('a').hex()}'",
        f"denomination {VALUES[8].hex()}: 8 EUR outstanding, the coins say 0",
    ),
    "an issued coin is worth more": (
        f"UPDATE issued SET denomination = {EIGHT} WHERE denomination = {TWO}",
        f"journal 3: {COINS_8} moves by 0, the coins are worth 16",
    ),
    "an issued coin is of another posting": (
        f"UPDATE issued SET journal = 3 WHERE blinded_hash = X'{h('a').hex()}'",
        f"journal 2: {COINS_8} moves by 24, the coins are worth 16",
    ),
    "a coin is issued for nothing": (
        f"INSERT INTO issued VALUES ({EIGHT}, zeroblob(32), 7)",
        f"journal 7: {COINS_8} moves by 0, the coins are worth 8",
    ),
    "a coin is issued under an unknown key": (
        "UPDATE issued SET denomination = zeroblob(32) WHERE journal = 3",
        f"denomination {bytes(32).hex()}: unknown, but 2 coins were issued and 0 spent",
    ),
    # spent
    "a spent coin is deleted": (
        f"DELETE FROM spent WHERE serial = X'{h('z').hex()}'",
        f"payment {h('q').hex()}: the verdict accepts 8 in journal 5, the coins pay nothing",
    ),
    "a spent coin is worth more": (
        f"UPDATE spent SET denomination = {EIGHT} WHERE serial = X'{h('y').hex()}'",
        f"payment {h('p').hex()}: the verdict accepts 10 in journal 4, the coins pay 16 in journal 4",
    ),
    "a coin is spent under an unknown key": (
        f"UPDATE spent SET denomination = zeroblob(32) WHERE serial = X'{h('y').hex()}'",
        f"denomination {bytes(32).hex()}: unknown, but 0 coins were issued and 1 spent",
    ),
    "a coin is spent on a payment that is unknown": (
        f"UPDATE spent SET digest = zeroblob(32) WHERE serial = X'{h('z').hex()}'",
        f"coin {h('z').hex()} of 8: spent on no accepted payment",
    ),
    "a coin is spent on another payment": (
        f"UPDATE spent SET digest = {P} WHERE serial = X'{h('z').hex()}'",
        f"payment {h('p').hex()}: the verdict accepts 10 in journal 4, the coins pay 10 in journal 4, 8 in journal 5",
    ),
    "a coin is spent by another posting": (
        f"UPDATE spent SET journal = 4 WHERE serial = X'{h('z').hex()}'",
        f"payment {h('q').hex()}: the verdict accepts 8 in journal 5, the coins pay 8 in journal 4",
    ),
    "more coins are spent than were issued": (
        f"INSERT INTO spent SELECT {TWO}, randomblob(32), {P}, spend, 4 FROM spent LIMIT 2",
        f"denomination {VALUES[2].hex()}: 3 coins spent of 2 issued, 2 EUR too much",
    ),
    # payments
    "a payment is deleted": (f"DELETE FROM payment WHERE digest = {Q}", "spent on no accepted payment"),
    "an accepted payment is called refused": (
        f"UPDATE payment SET accepted = 0 WHERE digest = {P}",
        f"payment {h('p').hex()}: the row differs from its verdict on 10 for account 1002",
    ),
    "a refused payment is called accepted": (
        f"UPDATE payment SET accepted = 1 WHERE digest = {R}",
        f"payment {h('r').hex()}: the verdict accepts 8 in journal 6, the coins pay nothing",
    ),
    "a payment is another account's": (
        f"UPDATE payment SET account = 1001 WHERE digest = {P}",
        f"payment {h('p').hex()}: of 10, 0 were credited to account 1001, 1 kept",
    ),
    "a payment is for another sale": (
        f"UPDATE payment SET payment_id = zeroblob(16) WHERE digest = {P}",
        f"payment {h('p').hex()}: the row differs from its verdict on 10",
    ),
    "a payment has another digest": (
        f"UPDATE payment SET digest = zeroblob(32) WHERE digest = {P}",
        f"payment {bytes(32).hex()}: the row differs from its verdict on 10",
    ),
    "a verdict is another payment's": (
        f"UPDATE payment SET verdict = (SELECT verdict FROM payment WHERE digest = {Q}) WHERE digest = {P}",
        f"payment {h('p').hex()}: the verdict accepts 8 in journal 4, the coins pay 10",
    ),
    "a verdict is no verdict": (
        f"UPDATE payment SET verdict = X'00' WHERE digest = {P}",
        f"payment {h('p').hex()}: the verdict cannot be read",
    ),
    "a payment is of another posting": (
        f"UPDATE payment SET journal = 5 WHERE digest = {P}",
        f"payment {h('p').hex()}: the verdict accepts 10 in journal 5, the coins pay 10 in journal 4",
    ),
    # fundings
    "a funding is changed": (
        "UPDATE funding SET amount = 60 WHERE journal = 8",
        "funding 'statement 2': 60 for account 1002, but journal 8 says otherwise",
    ),
    "a funding is another account's": (
        "UPDATE funding SET account = 1001 WHERE journal = 8",
        "funding 'statement 2': 50 for account 1001, but journal 8 says otherwise",
    ),
    "a funding is nobody's": (
        "UPDATE funding SET account = 4711 WHERE journal = 8",
        "funding 'statement 2': 50 for account 4711, which does not exist",
    ),
    "a funding is of another posting": (
        "UPDATE funding SET journal = 1 WHERE journal = 8",
        "journal 8: a funding with 0 references (account/1002 +50; cash/EUR -50)",
    ),
    "a funding is deleted": (
        "DELETE FROM funding WHERE journal = 8",
        "journal 8: a funding with 0 references (account/1002 +50; cash/EUR -50)",
    ),
    "a funding is doubled": (
        "INSERT INTO funding SELECT 'statement 3', account, amount, journal FROM funding WHERE journal = 8",
        "journal 8: a funding with 2 references (account/1002 +50; cash/EUR -50)",
    ),
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
    report = await _audit(copy, statement)
    assert not report.ok
    assert any(named in fault for fault in report.faults), report.faults


async def test_a_currency_out_of_balance_is_named(copy: Path) -> None:
    report = await _audit(copy, "UPDATE entry SET amount = amount - 3 WHERE ledger = 'cash/EUR' AND journal = 1")
    assert "EUR: 153 in cash, but accounts, commission and e-cash sum to 150" in report.faults
