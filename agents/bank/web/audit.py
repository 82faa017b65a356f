"""The audit's page: a button that begins it, and what it finds, as soon as it is found."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.responses import Response
from starlette.routing import BaseRoute

from ...web.events import Update
from ...web.gate import Visit
from ..last_audit import last_audit
from .office import Office

MOST_FAULTS: Final = 200
"""How many faults are listed on the page; the command lists all."""


def routes(office: Office) -> list[BaseRoute]:
    """Return the routes of the audit."""
    auditor = office.auditor

    async def context() -> dict[str, Any]:
        report = None if auditor.running else auditor.report
        return {
            "running": auditor.running,
            "failed": auditor.failed,
            "report": report,
            "ended_at": auditor.ended_at,
            "faults": report.faults[:MOST_FAULTS] if report else [],
            "last": await asyncio.to_thread(last_audit, office.home),
        }

    async def show(visit: Visit) -> Response:
        shown = await context()
        return office.pages.show(visit.request, "audit.html", visit.session, title="Audit", **shown)

    async def begin(visit: Visit) -> Response:
        auditor.start()
        return visit.onward("/audit")

    async def updates() -> AsyncIterator[Update]:
        await auditor.finished()
        html = office.pages.part("audit_state.html", **await context())
        yield Update({"audit": html}, "Audit", done=True)

    async def events(visit: Visit) -> Response:
        return visit.watch(updates())

    return [office.get("/audit", show), office.post("/audit", begin), office.get("/audit/events", events)]
