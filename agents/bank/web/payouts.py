"""Payouts: what is under way, and the files for the bank that sends them."""

from functools import partial
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute

from ...home import HomeError
from ...web.gate import Visit
from ..home import settings_of
from ..store import PayoutRow
from ..transfers import originator_of, write_transfers
from .office import Office, number_in

_SHOWN_DIGITS: Final = 4


def goes_to(payout: PayoutRow) -> str:
    """Return where a payout goes; of the account's number, the end."""
    to = payout.destination
    return f"{to.holder}, {to.kind} account ending in {to.number[-_SHOWN_DIGITS:]} at {to.routing}"


def routes(office: Office) -> list[BaseRoute]:
    """Return the routes of the payouts."""

    def cannot_export() -> str:
        """Return why no file can be written, or "" if it can."""
        try:
            originator_of(office.home, settings_of(office.home))
        except (HomeError, ValueError) as error:
            return str(error)
        return ""

    async def show(visit: Visit) -> Response:
        rows, files = await office.books.payouts(), await office.books.ach_files()
        written = visit.request.query_params.get("file", "")
        shown: dict[str, Any] = {
            "title": "Payouts",
            "rows": [(row, goes_to(row)) for row in rows],
            "queued": len(await office.books.payouts(state="queued", limit=10_000)),
            "files": files,
            "fresh": next((file.number for file in files if str(file.number) == written), 0),
            "obstacle": cannot_export(),
            "currency": office.settings.currency,
        }
        return office.pages.show(visit.request, "payouts.html", visit.session, **shown)

    async def export(visit: Visit) -> Response:
        try:
            write = partial(write_transfers, originator_of(office.home, settings_of(office.home)))
            written = await office.books.export_payouts(write)
        except (HomeError, ValueError) as error:
            return visit.onward("/payouts", f"No file was written: {error}.", "bad")
        if written is None:
            return visit.onward("/payouts", "No payout is queued: there is nothing to export.", "info")
        told = f"ACH file {written[0]} is written, and downloaded now. Hand it to the bank that sends payouts."
        return visit.onward(f"/payouts?file={written[0]}", told)

    async def download(visit: Visit) -> Response:
        number = number_in(visit.request)
        found = await office.books.ach_file(number) if number else None
        if found is None:
            raise HTTPException(404, f"There is no ACH file {number}.")
        headers = {"Content-Disposition": f'attachment; filename="payouts-{number}.ach"'}
        return Response(found[1], media_type="text/plain", headers=headers)

    return [
        office.get("/payouts", show),
        office.post("/payouts", export),
        office.get("/payouts/files/{number}", download),
    ]
