"""Keys and commission: what the bank announces, until when, and what is due."""

from typing import Any, Final, NamedTuple

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute

from protocol.commission import describe
from protocol.keyset import Denomination, Keyset, Tariff

from ...web.gate import Visit
from ..home import DAY_MS, settings_of, tariff_of
from ..keys_cli import state_of
from .front import EARNED_BY
from .office import Office

SOON_MS: Final = 30 * DAY_MS
"""New keys are due so long before the old ones mint no more."""
_POLICIES: Final = (
    ("withdraw", "withdrawal", "A client pays it on top of what he withdraws."),
    ("deposit", "deposit", "It is taken from what a merchant is credited for coins."),
    ("exchange", "exchange", "The new coins are worth so much less than the old ones."),
    ("refund", "refund", "A merchant pays it on top of a refund."),
    ("redeem", "redemption", "It is taken from what a client is credited for his own coins."),
    ("payout", "payout", "A merchant pays it on top of a payout."),
)


class Epoch(NamedTuple):
    """Keys of the same dates, each with what may be done with its coins now."""

    first: Denomination
    keys: list[tuple[Denomination, str]]


def epochs_of(keyset: Keyset, now: int) -> list[Epoch]:
    """Return the keys by their dates, the newest first, and by value."""
    grouped: dict[tuple[int, ...], list[Denomination]] = {}
    for one in sorted(keyset.denominations, key=lambda one: (-one.mint_from, one.currency, one.value)):
        dates = (one.mint_from, one.mint_until, one.spend_until, one.redeem_until)
        grouped.setdefault(dates, []).append(one)
    return [
        Epoch(keys[0], [(one, state_of(one, now, revoked=one.id in keyset.revoked)) for one in keys])
        for keys in grouped.values()
    ]


def minted_until(keyset: Keyset) -> int:
    """Return until when coins of all values can be minted; 0 if some value has no key any more."""
    until: dict[tuple[str, int], int] = {}
    for one in keyset.denominations:
        held = 0 if one.id in keyset.revoked else one.mint_until
        until[one.currency, one.value] = max(until.get((one.currency, one.value), 0), held)
    return min(until.values(), default=0)


def routes(office: Office) -> list[BaseRoute]:
    """Return the routes of keys and commission."""

    async def show_keys(visit: Visit) -> Response:
        keyset, now = (await office.keysets())[-1], office.clock.now()
        until = minted_until(keyset)
        shown: dict[str, Any] = {
            "title": "Keys",
            "keyset": keyset,
            "epochs": epochs_of(keyset, now),
            "until": until,
            "due": until - SOON_MS,
            "late": until <= now,
            "soon": until - SOON_MS <= now,
            "home": office.home,
        }
        return office.pages.show(visit.request, "keys.html", visit.session, **shown)

    def changes(announced: Tariff) -> str:
        """Return what bank.toml says otherwise than the keyset, in a sentence, or ""."""
        try:
            if tariff_of(settings_of(office.home)) == announced:
                return ""
        except ValueError as error:
            return f"bank.toml names a commission that makes no sense: {error}."
        return "bank.toml names another commission: it is announced with the next ecash bank rotate."

    async def show_commission(visit: Visit) -> Response:
        keyset, done = (await office.keysets())[-1], await office.counted.business()
        policy = msgspec.structs.asdict(keyset.tariff)
        currency = office.settings.currency
        shown: dict[str, Any] = {
            "title": "Commission",
            "policies": [(EARNED_BY[kind], describe(policy[name], currency), how) for kind, name, how in _POLICIES],
            "earned": done.commissions,
            "names": EARNED_BY,
            "totals": {key: value for key, value in done.balances.items() if key.startswith("commission/")},
            "changes": changes(keyset.tariff),
            "home": office.home,
        }
        return office.pages.show(visit.request, "commission.html", visit.session, **shown)

    return [office.get("/keys", show_keys), office.get("/commission", show_commission)]
