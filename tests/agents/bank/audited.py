"""Books with some business of every kind in them, and their audit."""

import sqlite3
from contextlib import closing
from pathlib import Path

from agents.bank.audit import Report, audit
from agents.bank.seal import UNSEALED, hashes_of_rows, seal_of
from agents.bank.sqlite import SqliteBooks
from agents.bank.store import Books
from protocol.bank.ledger import Claim, Spending, coins_ledger
from protocol.refusals import Refusal
from protocol.signatures import Domain, public_key, sign
from tests.conformance.bookkeeping import (
    DENOMINATIONS,
    DESTINATION,
    IDENTITY,
    VALUES,
    ManualClock,
    deposit,
    exchange,
    h,
    payment,
    payout,
    redemption,
    refund,
    refusal_of,
    request,
    rich_client,
    shop_of,
    withdrawal,
)

ALICE, SHOP, BOB, CAROL = 1001, 1002, 1003, 1004
EIGHT, TWO = (f"X'{VALUES[value].hex()}'" for value in (8, 2))
COINS_8, COINS_2 = (coins_ledger(VALUES[value]) for value in (8, 2))
P, Q, R = (f"X'{h(name).hex()}'" for name in "pqr")
SERIALS = {name: public_key(h(name)).hex() for name in "xyzklm"}
X, Y, Z, K, L, M = (f"X'{serial}'" for serial in SERIALS.values())


def spent(name: str, on: str, value: int = 8) -> Spending:
    """A coin whose holder has signed what it was spent on."""
    signature = sign(h(name), Domain.SPEND, VALUES[value], h(on))
    return Spending(VALUES[value], public_key(h(name)), signature)


async def do_business(books: Books) -> None:
    """Journal 1 to 8: a funding, two withdrawals, two deposits, a refused one, a claimed account, a funding.

    Then Carol's: 9 a funding, 10 a withdrawal, 11 an exchange (nobody's), 12 a refund, 13 a redemption; 14 to 16 three
    payouts that are exported, of which (17) one is settled, (18) one returned, (19, 20) one first settled and then
    returned; 21 a payout that is queued.
    """
    await rich_client(books, 100)
    await shop_of(books)
    bob = await books.open_account("client", "bob", "Bob", "EUR", b"", h("invitation"))
    carol = await books.open_account("merchant", "carol", "Carol", "EUR", h("carol's key"), b"")
    assert (bob.number, carol.number) == (BOB, CAROL)
    for posting in (
        withdrawal(ALICE, "a", "b", "c", value=8),
        withdrawal(ALICE, "d", "e", value=2),
        deposit(SHOP, "p", spent("x", "p"), spent("y", "p", 2)),
        deposit(SHOP, "q", spent("z", "q")),
        request("deposit", payment=payment(SHOP, "r", 8, Refusal.BAD_COIN)),
        request("account", claim=Claim(BOB, h("bob's key"))),
    ):
        assert refusal_of(await books.post(posting)) == "Posted"
    await books.credit(SHOP, 50, "statement 2")
    await books.credit(CAROL, 200, "carol's sales")
    await books.set_destination(CAROL, DESTINATION)
    for posting in (
        withdrawal(CAROL, "c1", "c2"),
        exchange(spent("k", "e"), spent("m", "e", 2), into=("f1", "f2", "f3")),
        refund(CAROL, "g1", ticket="ticket"),
        redemption(CAROL, spent("l", "s"), on="s"),
        payout(CAROL, 30),
        payout(CAROL, 40),
        payout(CAROL, 10),
    ):
        assert refusal_of(await books.post(posting)) == "Posted"
    assert await books.export_payouts(lambda number, now, payouts: b"file")
    assert await books.settle_payout(1, 30)
    assert await books.return_payout(2, 40, "R01")
    assert await books.settle_payout(3, 10)
    assert await books.return_payout(3, 10, "R02")
    await books.post(payout(CAROL, 20))


async def audited(path: Path, *statements: str, sample: int = 0, seed: int = 0) -> Report:
    """Change the database behind the bank's back, by somebody who can renew its seals, and audit it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        unguard(db)
        for statement in statements:
            assert db.execute(statement).rowcount > 0
        if statements:
            reseal(db)
    async with SqliteBooks(path, ManualClock()) as books:
        return audit(await books.snapshot(), DENOMINATIONS, identity=public_key(IDENTITY), sample=sample, seed=seed)


def unguard(db: sqlite3.Connection) -> None:
    """Let the database take whatever it is told."""
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA ignore_check_constraints = ON")


def reseal(db: sqlite3.Connection) -> None:
    """Seal all postings anew, as they stand."""
    before, seals = UNSEALED, []
    for journal, rows in sorted(hashes_of_rows(db).items()):
        before = seal_of(before, rows)
        seals.append((journal, before))
    db.execute("DELETE FROM seal")
    db.executemany("INSERT INTO seal VALUES (?, ?)", seals)
