import re

from agents.bank.overview import Series
from agents.bank.web.front import plot_of
from agents.bank.web.plot import HEIGHT, WIDTH, curve, top_of
from agents.home import locked
from tests.agents.bank.web.conftest import Operator
from tests.simulation.clock import VirtualClock


async def test_the_overview_shows_the_balance_sheet(trade: Operator) -> None:
    page = await trade.see("/")
    audit = (await trade.town.books.business()).balances
    assert audit["cash/USD"] == -200
    assert "Money held 2.00 USD equals the four that follow" in page
    assert "Payouts under way 0.35 USD" in page
    assert "E-cash outstanding 0.13 USD minted 0.13 USD, taken back 0.00 USD" in page
    assert "Commission earned Withdrawals 0.01 USD" in page


async def test_what_is_outstanding_is_plotted_and_in_a_table(trade: Operator) -> None:
    page = (await trade.browser.get("/")).text
    assert page.count("<svg") == 1 + 3
    assert all('role="img" aria-label="' in one for one in re.findall(r"<svg[^>]*>", page))
    assert "<summary>The same figures as a table</summary>" in page
    assert re.search(r'<td class="num">0\.13 USD</td>(<td class="num">1</td>){3}', page)


async def test_a_new_bank_has_nothing_to_plot(operator: Operator) -> None:
    page = await operator.see("/")
    assert "No money has moved yet" in page
    assert "<svg" not in (await operator.browser.get("/")).text


async def test_what_happens_meanwhile_is_counted(trade: Operator) -> None:
    assert "Money held 2.00 USD" in await trade.see("/")
    await trade.town.books.credit(1001, 50, "more")
    assert "Money held 2.50 USD" in await trade.see("/")


async def test_coins_are_not_counted_all_the_time(trade: Operator, clock: VirtualClock) -> None:
    class Slow:
        def __init__(self) -> None:
            self.counts = 0

    slow = Slow()
    count = trade.town.books.business

    async def business() -> object:
        slow.counts += 1
        clock.advance(1_000)
        return await count()

    trade.town.books.business = business  # type: ignore[method-assign, assignment]
    for reference in "abc":
        await trade.see("/")
        await trade.town.books.credit(1001, 50, reference)
    assert slow.counts == 1
    clock.advance(20_000)
    assert "Money held 3.50 USD" in await trade.see("/")
    assert slow.counts == 2


async def test_the_overview_tells_whether_the_bank_runs(operator: Operator) -> None:
    assert "The bank’s process Not running: ecash bank run starts it" in await operator.see("/")
    with locked(operator.home):
        page = await operator.see("/")
    assert "The bank’s process Running" in page
    assert "At the broker open, on 4 lanes" in page
    assert "Last audit never" in page


def test_a_curve_goes_from_nothing_to_now() -> None:
    drawn = curve([0, 5, 10], 10)
    assert drawn.line == f"M0.0 {HEIGHT:.1f}L200.0 {HEIGHT:.1f}L400.0 {HEIGHT / 2:.1f}L{WIDTH:.1f} 0.0"
    assert drawn.area == f"{drawn.line}V{HEIGHT}H0Z"


def test_a_scale_ends_at_a_round_number() -> None:
    assert [top_of(most) for most in (1, 2, 3, 5, 6, 10, 11, 47, 51, 999)] == [1, 2, 5, 5, 10, 10, 20, 50, 100, 1000]


def test_a_plot_of_coins_that_all_came_back_lies_on_the_ground() -> None:
    plot = plot_of(Series(0, (5,), {8: (0,)}), "USD")
    assert plot is not None
    assert (plot.top, plot.panels[0].now, plot.rows) == (1, 0, [(5, 0, [0])])
    assert plot_of(Series(0, (5,), {}), "USD") is None
