import sqlite3
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.bank.audit import audit
from agents.bank.damage import SCHEMA
from agents.bank.overview import MOST_STEPS, business, outstanding_over_time, sheets
from agents.bank.sqlite import SqliteBooks
from tests.conformance.bookkeeping import DENOMINATIONS, ManualClock, h

OLD_EIGHT, EIGHT, TWO, FOREIGN, UNKNOWN = (h(name) for name in ("old eight", "eight", "two", "yen", "unknown"))
KNOWN = {OLD_EIGHT: (8, "EUR"), EIGHT: (8, "EUR"), TWO: (2, "EUR"), FOREIGN: (8, "JPY")}
START = 1_700_000_000_000
DAY = 86_400_000

Event = tuple[int, bytes, int, int]
"""How long after the one before; of which denomination so many coins were signed, and so many came back."""

events = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 5_000), st.integers(0, 3 * DAY), st.integers(0, 900 * DAY)),
        st.sampled_from([*KNOWN, UNKNOWN]),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    max_size=20,
)


def books_of(history: list[Event]) -> tuple[sqlite3.Connection, int]:
    """Books in memory with nothing but coins in them, and the time of the last posting."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(SCHEMA)
    at, serial = START, 0
    for journal, (pause, denomination, minted, spent) in enumerate(history, 1):
        at += pause
        db.execute("INSERT INTO journal VALUES (?, 'x', NULL, ?)", (journal, at))
        for _ in range(minted):
            serial += 1
            db.execute("INSERT INTO issued VALUES (?, ?, ?)", (denomination, h(f"{serial}"), journal))
        for _ in range(spent):
            serial += 1
            row = (denomination, h(f"{serial}"), bytes(32), bytes(64), journal)
            db.execute("INSERT INTO spent VALUES (?, ?, ?, ?, ?)", row)
    return db, at


def out_by_then(history: list[Event], currency: str, value: int, end: int) -> int:
    """Count the coins of a value that are out before a time, one by one."""
    at, out = START, 0
    for pause, denomination, minted, spent in history:
        at += pause
        if at < end and KNOWN.get(denomination) == (value, currency):
            out += minted - spent
    return out


@settings(max_examples=50)
@given(events.filter(bool), st.integers(0, 10 * DAY), st.sampled_from(["EUR", "JPY"]))
def test_outstanding_over_time_is_what_counting_coin_by_coin_finds(
    history: list[Event], later: int, currency: str
) -> None:
    db, last = books_of(history)
    with closing(db):
        done = business(db, last + later)
    series = outstanding_over_time(done, KNOWN, currency)
    assert series.begin <= START + history[0][0]
    assert series.ends[-1] == last + later
    assert list(series.ends) == sorted(set(series.ends))
    values = {
        KNOWN[d][0] for _, d, minted, spent in history if d in KNOWN and KNOWN[d][1] == currency and minted + spent
    }
    assert set(series.coins) == values
    for value, counted in series.coins.items():
        ends = [*series.ends[:-1], series.ends[-1] + 1]
        assert list(counted) == [out_by_then(history, currency, value, end) for end in ends]
    worth = sum(value * counted[-1] for value, counted in series.coins.items())
    assert series.worth[-1] == worth


@settings(max_examples=30)
@given(events)
def test_time_is_divided_into_few_steps(history: list[Event]) -> None:
    db, last = books_of(history)
    with closing(db):
        done = business(db, last)
    assert (done.at - done.begin) // done.step + 1 <= MOST_STEPS


def test_a_clock_that_is_behind_the_books_hides_nothing() -> None:
    db, last = books_of([(DAY, EIGHT, 3, 1)])
    with closing(db):
        done = business(db, last - 2 * DAY)
    assert done.at == last
    assert outstanding_over_time(done, KNOWN, "EUR").coins == {8: (2,)}


async def test_the_figures_are_those_of_the_audit(finished: Path) -> None:
    async with SqliteBooks(finished, ManualClock()) as books:
        done, report = await books.business(), audit(await books.snapshot(), DENOMINATIONS)
    assert report.ok
    assert sheets(done, DENOMINATIONS) == report.totals
    series = outstanding_over_time(done, DENOMINATIONS, "EUR")
    assert series.worth[-1] == report.totals["EUR"].outstanding > 0
    assert sum(row.amount for row in done.commissions) == report.totals["EUR"].commission > 0
