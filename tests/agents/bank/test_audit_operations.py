from pathlib import Path

import pytest

from tests.agents.bank.audited import COINS_8, EIGHT, SERIALS, TWO, M, P, Q, R, audited
from tests.conformance.bookkeeping import VALUES, h

TAMPERINGS = {
    # issued
    "an issued coin is deleted": (
        f"DELETE FROM issued WHERE denomination = {EIGHT} AND blinded_hash = X'{h('a').hex()}'",
        f"denomination {VALUES[8].hex()}: 16 EUR outstanding, the coins say 8",
    ),
    "an issued coin is worth more": (
        f"UPDATE issued SET denomination = {EIGHT} WHERE journal = 3",
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
        f"DELETE FROM spent WHERE serial = X'{SERIALS['z']}'",
        f"payment {h('q').hex()}: the verdict accepts 8 in journal 5, the coins pay nothing",
    ),
    "a spent coin is worth more": (
        f"UPDATE spent SET denomination = {EIGHT} WHERE serial = X'{SERIALS['y']}'",
        f"payment {h('p').hex()}: the verdict accepts 10 in journal 4, the coins pay 16 in journal 4",
    ),
    "a coin is spent under an unknown key": (
        f"UPDATE spent SET denomination = zeroblob(32) WHERE serial = X'{SERIALS['y']}'",
        f"denomination {bytes(32).hex()}: unknown, but 0 coins were issued and 1 spent",
    ),
    "a coin is spent on a payment that is unknown": (
        f"UPDATE spent SET digest = zeroblob(32) WHERE serial = X'{SERIALS['z']}'",
        f"coin {SERIALS['z']} of 8: spent on no accepted payment",
    ),
    "a coin is spent on another payment": (
        f"UPDATE spent SET digest = {P} WHERE serial = X'{SERIALS['z']}'",
        f"payment {h('p').hex()}: the verdict accepts 10 in journal 4, the coins pay 10 in journal 4, 8 in journal 5",
    ),
    "a coin is spent by another posting": (
        f"UPDATE spent SET journal = 4 WHERE serial = X'{SERIALS['z']}'",
        f"payment {h('q').hex()}: the verdict accepts 8 in journal 5, the coins pay 8 in journal 4",
    ),
    "more coins are spent than were issued": (
        f"INSERT INTO spent SELECT {TWO}, randomblob(32), {P}, spend, 4 FROM spent LIMIT 4",
        f"denomination {VALUES[2].hex()}: 6 coins spent of 5 issued, 2 EUR too much",
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
    # exchanges and refunds
    "an exchange issues more than it takes": (
        f"UPDATE issued SET denomination = {EIGHT} WHERE journal = 11",
        "journal 11: an exchange of coins worth 10 for 24",
    ),
    "an exchange issues nothing": (
        "DELETE FROM issued WHERE journal = 11",
        "journal 11: an exchange of coins worth 10 for 0",
    ),
    "an exchange credits an account": (
        "UPDATE entry SET ledger = 'account/1003' WHERE journal = 11 AND ledger = 'commission/EUR'",
        "journal 11: +4 in account/1003 without a cause",
    ),
    "a coin of an exchange is spent on something else": (
        f"UPDATE spent SET digest = zeroblob(32) WHERE serial = {M}",
        "not spent on what the other coins of journal 11 were",
    ),
    "a refund is called a redemption": (
        "UPDATE journal SET kind = 'redeem' WHERE id = 12",
        "journal 12: coins worth 8 issued by a redeem",
    ),
    "a refund credits another account": (
        "INSERT INTO entry VALUES ('account/1003', 12, 5), ('cash/EUR', 12, -5)",
        "journal 12: +5 in account/1003 without a cause",
    ),
    "a ticket's answer is deleted": (
        f"DELETE FROM answer WHERE request_id = X'{h('ticket')[:16].hex()}'",
        "journal 12: a refund with 1 answers (account/1004 -9;",
    ),
    "a withdrawal has two answers": (
        "INSERT INTO answer SELECT zeroblob(16), request_hash, answer, journal FROM answer WHERE journal = 10",
        "journal 10: a withdraw with 2 answers (account/1004 -17;",
    ),
    # withdrawals
    "a withdrawal is deleted": (
        "DELETE FROM withdrawal WHERE journal = 10",
        "journal 10: coins worth 16 withdrawn, with 0 withdrawals",
    ),
    "a withdrawal is another account's": (
        "UPDATE withdrawal SET account = 1003 WHERE journal = 10",
        "journal 10: -17 in account/1004 without a cause",
    ),
    "a withdrawal is worth more": (
        "UPDATE withdrawal SET amount = 17 WHERE journal = 10",
        "withdrawal 1 of account 1004: 17, but coins worth 16 were issued in journal 10",
    ),
    "a withdrawal has another number": (
        "UPDATE withdrawal SET number = 3 WHERE account = 1001 AND number = 2",
        "account 1001: has 2 withdrawals, but the last one is number 3",
    ),
    "a withdrawal is of another request": (
        "UPDATE withdrawal SET request_id = zeroblob(16) WHERE journal = 10",
        "withdrawal 1 of account 1004: 16, but journal 10 is of another request, a withdraw",
    ),
    "a withdrawal is of another posting": (
        "UPDATE withdrawal SET journal = 12 WHERE journal = 10",
        "withdrawal 1 of account 1004: 16, but journal 12 is of another request, a refund",
    ),
    "a withdrawal is of a posting that is not there": (
        "UPDATE withdrawal SET journal = 99 WHERE journal = 10",
        "journal 99: missing, but other rows name it",
    ),
    # redemptions
    "a redemption is deleted": (
        "DELETE FROM redemption",
        "journal 13: +7 in account/1004 without a cause",
    ),
    "a redemption is worth more": (
        "UPDATE redemption SET amount = 9",
        "redemption of 9 for account 1004: coins worth 8 were spent in journal 13",
    ),
    "a redemption is another account's": (
        "UPDATE redemption SET account = 1001",
        "redemption of 8 for account 1001, 0 were credited to account 1001, 1 kept",
    ),
    "a redemption credits less than nothing": (
        "UPDATE entry SET amount = amount - 10 + 20 * (ledger = 'commission/EUR') "
        "WHERE journal = 13 AND ledger IN ('account/1004', 'commission/EUR')",
        "redemption of 8 for account 1004, -3 were credited to account 1004, 11 kept",
    ),
    "a redemption is of another posting": (
        "UPDATE redemption SET journal = 9",
        "redemption of 8 for account 1004: journal 9 is a funding",
    ),
    "more is redeemed than was withdrawn": (
        "UPDATE withdrawal SET amount = 7 WHERE journal = 10",
        "journal 13: account 1004 has redeemed 1 more than it had withdrawn",
    ),
    "a redemption comes before the withdrawal": (
        "UPDATE withdrawal SET journal = 15 WHERE journal = 10",
        "journal 13: account 1004 has redeemed 8 more than it had withdrawn",
    ),
    # payouts
    "a payout is changed": (
        "UPDATE payout SET amount = 31 WHERE number = 1",
        "payout 1: 31 for account 1004, but journal 14 says otherwise",
    ),
    "a payout's commission is changed": (
        "UPDATE payout SET commission = 0 WHERE number = 1",
        "payout 1: 30 for account 1004, but journal 14 says otherwise",
    ),
    "a payout is another account's": (
        "UPDATE payout SET account = 1002 WHERE number = 4",
        "journal 21: -21 in account/1004 without a cause",
    ),
    "a payout is nobody's": (
        "UPDATE payout SET account = 4711 WHERE number = 4",
        "payout 4: 20 for account 4711, which does not exist",
    ),
    "a payout is deleted": (
        "DELETE FROM payout WHERE number = 4",
        "ledger clearing/EUR: 20, but payouts on their way sum to 0",
    ),
    "a payout is called a deposit": (
        "UPDATE journal SET kind = 'deposit' WHERE id = 14",
        "payout 1: 30 for account 1004, but journal 14 is a deposit",
    ),
    "an export is deleted": (
        "DELETE FROM export WHERE payout = 1",
        "payout 1: 30 for account 1004, settled or returned, but never exported",
    ),
    "more than is on its way leaves clearing": (
        "UPDATE entry SET amount = amount * 9 WHERE journal = 17",
        "ledger clearing/EUR: the balance is -220",
    ),
    "a settlement is deleted": (
        "DELETE FROM settlement WHERE payout = 1",
        "journal 17: a settlement with 0 payouts (cash/EUR +30; clearing/EUR -30)",
    ),
    "a settlement is another payout's": (
        "UPDATE settlement SET payout = 4 WHERE payout = 1",
        "payout 4: 20 for account 1004, settled, but journal 17 says otherwise",
    ),
    "a settlement is of a posting that is not there": (
        "UPDATE settlement SET journal = 99 WHERE payout = 1",
        "journal 99: missing, but other rows name it",
    ),
    "a settlement is called a return": (
        "UPDATE journal SET kind = 'payout_return' WHERE id = 17",
        "payout 1: 30 for account 1004, settled, but journal 17 is a payout_return",
    ),
    "a payout is settled after it was returned": (
        "INSERT INTO settlement VALUES (2, 19)",
        "payout 2: 40 for account 1004, settled in journal 19, after it was returned",
    ),
    "a return is deleted": (
        "DELETE FROM payout_return WHERE payout = 2",
        "journal 18: a payout_return with 0 payouts (account/1004 +40; clearing/EUR -40)",
    ),
    "a return is credited twice": (
        "UPDATE entry SET amount = amount * 2 WHERE journal = 18",
        "payout 2: 40 for account 1004, returned, but journal 18 says otherwise",
    ),
    "a return is credited to another": (
        "UPDATE entry SET ledger = 'account/1003' WHERE journal = 18 AND ledger = 'account/1004'",
        "journal 18: +40 in account/1003 without a cause",
    ),
    "a return is of a posting that is not there": (
        "UPDATE payout_return SET journal = 99 WHERE payout = 2",
        "journal 99: missing, but other rows name it",
    ),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_tampered_books_are_named_with_row_and_amount(copy: Path, tampering: str) -> None:
    statement, named = TAMPERINGS[tampering]
    report = await audited(copy, statement)
    assert not report.ok
    assert any(named in fault for fault in report.faults), report.faults
