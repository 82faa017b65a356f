"""The first page: the balance sheet, e-cash outstanding over time, what was earned, and how the bank does."""

import asyncio
from typing import Any, Final, NamedTuple

from starlette.responses import Response
from starlette.routing import BaseRoute

from protocol.money import format_minor

from ...web.gate import Visit
from ..last_audit import last_audit
from ..overview import Series, outstanding_over_time, sheets
from .health import health, size_text
from .office import Office, denominations_of
from .plot import Curve, curve, top_of

EARNED_BY: Final = {
    "withdraw": "Withdrawals",
    "deposit": "Deposits",
    "exchange": "Exchanges",
    "refund": "Refunds",
    "redeem": "Redemptions",
    "payout": "Payouts",
}
"""What a kind of posting that earns commission is called."""


class Panel(NamedTuple):
    """A small plot: coins of one value. `now` of them are out."""

    value: str
    now: int
    worth: int
    curve: Curve


class Plot(NamedTuple):
    """E-cash outstanding in one currency; `rows` are the end of each step, and the figures then, worth first."""

    currency: str
    begin: int
    end: int
    top: int
    curve: Curve
    most_coins: int
    panels: list[Panel]
    values: list[str]
    rows: list[tuple[int, int, list[int]]]


def plot_of(series: Series, currency: str) -> Plot | None:
    """Return what a page shows of a series; None if no coin was ever out."""
    if not series.coins:
        return None
    worth = series.worth
    top = top_of(max(1, *worth))
    most_coins = top_of(max(1, *(max(out) for out in series.coins.values())))
    panels = [
        Panel(format_minor(value, currency), out[-1], value * out[-1], curve(out, most_coins))
        for value, out in series.coins.items()
    ]
    rows = [(end, worth[i], [out[i] for out in series.coins.values()]) for i, end in enumerate(series.ends)]
    ends = series.ends[-1]
    shown = [panel.value for panel in panels]
    return Plot(currency, series.begin, ends, top, curve(worth, top), most_coins, panels, shown, rows[::-1])


def routes(office: Office) -> list[BaseRoute]:
    """Return the routes of the first page."""

    async def overview(visit: Visit) -> Response:
        done, keysets, state = await asyncio.gather(
            office.counted.business(), office.keysets(), health(office.home, office.ask)
        )
        known, newest = denominations_of(keysets), keysets[-1]
        found = sheets(done, known)
        plots = [plot_of(outstanding_over_time(done, known, currency), currency) for currency in found]
        shown: dict[str, Any] = {
            "title": "Overview",
            "done": done,
            "sheets": found,
            "pictures": [plot for plot in plots if plot],
            "earned": done.commissions,
            "names": EARNED_BY,
            "health": state,
            "keyset": newest,
            "books_size": size_text(state.books),
            "free": size_text(state.free),
            "last": await asyncio.to_thread(last_audit, office.home),
            "auditing": office.auditor.running,
        }
        return office.pages.show(visit.request, "overview.html", visit.session, **shown)

    return [office.get("/", overview)]
