"""The whole crash matrix: every agent dies thrice at every point of every exchange.

On its first passage, again in the recovery from that, and on a later passage. `make crash` runs it.
"""

import signal
from pathlib import Path
from typing import ClassVar, Final

import pytest

from .process import FULL
from .scenarios import SCENARIOS, Deaths, Scenario, check
from .test_crash import AGAIN, POINTS
from .test_crash_exchanges import rich_world, server_dies
from .world import Templates

pytestmark = pytest.mark.skipif(not FULL, reason="takes minutes; ECASH_CRASH=full or `make crash` runs it")


def _deaths_in(kind: str) -> dict[str, tuple[Deaths, ...]]:
    return {
        name: (*((point,) for point in points), *AGAIN[kind, name])
        for (of_kind, name), points in POINTS.items()
        if of_kind == kind
    }


class Withdraw(Scenario):
    """Alice withdraws coins."""

    deaths: ClassVar = _deaths_in("withdraw")

    def command(self) -> tuple[object, ...]:
        return ("withdraw", "0.20")


class Purchase(Scenario):
    """Alice pays with coins that fit."""

    deaths: ClassVar = _deaths_in("pay")

    async def prepare(self) -> None:
        assert (await self.world.customer("withdraw", "0.13")).code == 0

    def command(self) -> tuple[object, ...]:
        return ("pay", "shop", "song", "--yes")


EXCHANGES: Final[tuple[type[Scenario], ...]] = (Withdraw, Purchase, *SCENARIOS)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in EXCHANGES for name in kind.deaths if name != "wallet"],
)
async def test_bank_and_shop_may_die_thrice_at_every_point(
    kind: type[Scenario], name: str, templates: Templates, tmp_path: Path
) -> None:
    thrice = [crash_at for point in _points(kind, name)[::-1] for crash_at in (point, point, f"{point}:2")]
    await server_dies(kind, name, thrice, templates, tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in EXCHANGES if "wallet" in kind.deaths])
async def test_the_wallet_may_die_thrice_at_every_point(
    kind: type[Scenario], templates: Templates, tmp_path: Path
) -> None:
    """A wallet that passes a point but once, or never in its recovery, has got through instead."""
    async with rich_world(templates, tmp_path) as world:
        scenario = kind(world)
        await world.open("bank", "shop")
        await scenario.begin()
        for point in _points(kind, "wallet"):
            for deaths in ((point, point), (f"{point}:2", f"{point}:2")):
                await scenario.prepare()
                words = scenario.command()
                for crash_at in deaths:
                    died = await world.customer(*words, crash_at=crash_at)
                    assert died.code in {0, -signal.SIGKILL}, f"the wallet at {crash_at}: {died}"
                    words = scenario.again()
                done = await world.customer(*words)
                assert done.code == 0, f"the wallet after {deaths}: {done}"
                await check(world)
                await scenario.settle()
        await world.close()


def _points(kind: type[Scenario], name: str) -> list[str]:
    """Return the names of all points where an agent dies in an exchange, in the order of their first deaths."""
    return list(dict.fromkeys(point.partition(":")[0] for deaths in kind.deaths[name] for point in deaths))
