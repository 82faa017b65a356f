"""The office's page of the webhooks: where they go, what became of them, and sending one again."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ...web.gate import Gate, Visit
from .site import Shop

PATH: Final = "/office/webhook"
_SHOWN: Final = 100
_TONES: Final = {"delivered": "good", "waiting": "wait", "failed": "bad"}


def routes(shop: Shop, gate: Gate) -> list[BaseRoute]:
    """Return the routes of the page."""
    outbox = shop.agent.outbox

    async def show(visit: Visit) -> Response:
        return shop.pages.show(
            visit.request,
            "office_webhook.html",
            visit.session,
            title="Webhook",
            address=shop.agent.desk.settings.webhook,
            notices=await outbox.notices(_SHOWN),
            tones=_TONES,
        )

    async def again(visit: Visit) -> Response:
        number = visit.request.path_params["number"]
        if number >= 2**63 or not await outbox.again(number):
            raise HTTPException(404, "There is no such notice. See the list in the office.")
        return visit.onward(PATH, "It is sent again now. Load the page anew to see what became of it.")

    return [
        Route(PATH, gate.behind(show), methods=["GET"]),
        Route(f"{PATH}/{{number:int}}/again", gate.behind(again), methods=["POST"]),
    ]
