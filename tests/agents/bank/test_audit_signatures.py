import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from protocol.messages import Signed, Verdict
from protocol.signatures import Domain
from tests.agents.bank.audited import SERIALS, K, Q, Z, audited
from tests.conformance.bookkeeping import h


async def test_stored_signatures_are_verified(copy: Path) -> None:
    report = await audited(copy, sample=100)
    assert (report.verdicts, report.spendings) == (3, 6)
    assert report.ok


async def test_no_signature_is_verified_unless_asked_for(copy: Path) -> None:
    report = await audited(copy, f"UPDATE spent SET spend = zeroblob(64) WHERE serial = {K}")
    assert (report.verdicts, report.spendings) == (0, 0)
    assert report.ok


async def test_a_verdict_that_somebody_else_signed_is_named(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as db:
        ((stored,),) = db.execute(f"SELECT verdict FROM payment WHERE digest = {Q}")
    forged = Signed.make(b"another key".ljust(32), Domain.VERDICT, Verdict.decode(Signed.decode(stored).statement))
    statement = f"UPDATE payment SET verdict = X'{forged.encode().hex()}' WHERE digest = {Q}"
    (fault,) = (await audited(copy, statement, sample=100)).faults
    assert fault.startswith(f"payment {h('q').hex()}: the verdict is not signed by the bank: bad_signature")


@pytest.mark.parametrize(("serial", "on"), [("x", "p"), ("k", "e"), ("l", "s")], ids=["deposit", "exchange", "redeem"])
async def test_a_coin_that_its_holder_did_not_spend_is_named(copy: Path, serial: str, on: str) -> None:
    statement = f"UPDATE spent SET spend = zeroblob(64) WHERE serial = X'{SERIALS[serial]}'"
    report = await audited(copy, statement, sample=100)
    assert report.faults == [f"coin {SERIALS[serial]} of 8: its holder did not spend it on {h(on).hex()}"]


@pytest.mark.parametrize("sample", range(1, 8))
async def test_audits_with_consecutive_seeds_verify_each_signature_once(copy: Path, sample: int) -> None:
    strides = -(-6 // sample)
    reports = [await audited(copy, sample=sample, seed=seed) for seed in range(7, 7 + strides)]
    assert all(report.spendings <= sample for report in reports)
    assert sum(report.spendings for report in reports) == 6
    await audited(copy, f"UPDATE spent SET spend = zeroblob(64) WHERE serial = {Z}")
    reports = [await audited(copy, sample=sample, seed=seed) for seed in range(7, 7 + strides)]
    assert sorted(len(report.faults) for report in reports) == [0] * (strides - 1) + [1]
