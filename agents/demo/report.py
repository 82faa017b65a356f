"""What the demonstration reports, computed from the agents' stores after they have stopped."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..bank.auditing import audit_of
from ..client.service import open_store
from .story import Step

CURRENCY = "USD"


def conservation(bank: Path, wallets: Sequence[Path]) -> dict[str, Any]:
    """Return what was minted and where it is, in minor units, from the bank's books and the wallets' files.

    `ok` says that the bank's audit found no fault, that every coin minted was deposited or is held, and that the
    money brought in is what accounts, coins and commission add up to.
    """
    report = asyncio.run(audit_of(bank))
    total = report.totals[CURRENCY]
    held = sum(asyncio.run(_held(wallet)) for wallet in wallets)
    ok = (
        report.ok
        and total.minted == total.deposited + held
        and -total.cash == total.accounts + total.clearing + total.commission + held
    )
    return {
        "minted": total.minted,
        "deposited": total.deposited,
        "held": held,
        "accounts": total.accounts,
        "commission": total.commission,
        "ok": ok,
    }


async def _held(wallet: Path) -> int:
    async with open_store(wallet) as store:
        return sum(value * count for _, _, _, value, count in await store.holdings())


def report_of(engine: str, steps: Sequence[Step], conserved: dict[str, Any] | None) -> dict[str, Any]:
    """Return the report as JSON's values."""
    return {"broker": engine, "steps": [step._asdict() for step in steps], "conservation": conserved}
