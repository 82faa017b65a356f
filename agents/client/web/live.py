"""What a page shows of something that goes on, again whenever it has changed."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from starlette.responses import Response

from ...web.events import Update
from ...web.gate import Visit
from .house import House

LOOK_EVERY_MS: Final = 400


def watched(house: House, visit: Visit, look: Callable[[], Awaitable[Update]], *, keep_open: bool = False) -> Response:
    """Return a live update: what `look` finds, whenever it is something else, until it is done.

    Args:
        house: whose.
        visit: who asks.
        look: looks at what goes on.
        keep_open: whether the wallet stays unlocked as long as somebody has the page before them. For what would come
            to nothing if it were locked.
    """
    return visit.watch(_updates(house, visit, look, keep_open))


async def _updates(
    house: House, visit: Visit, look: Callable[[], Awaitable[Update]], keep_open: bool
) -> AsyncIterator[Update]:
    before = None
    while house.vault.unlocked and not visit.session.over:
        update = await look()
        if update != before:
            before = update
            yield update
        if update.done:
            return
        now = house.clock.now()
        if keep_open:
            visit.session.seen_at = now
        await house.clock.sleep_until(now + LOOK_EVERY_MS)
    yield Update({}, done=True)
