"""A benchmark from beginning to end: set up, warm up, prepare, measure beside the yardstick, audit."""

import math
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..bank.auditing import audit_of
from ..terminal import err
from .deposit import deposits
from .load import Tick, Trial, Workload, closed_loop, cpu_seconds, is_on_disk
from .purchase import purchases
from .report import Cpu, Plan, Report, report_of
from .rig import MOST_DENOMINATIONS, SHOP, Rig, running_broker
from .withdraw import withdrawals
from .yardstick import Yardstick, measure_openssl

_RESERVE: Final = 1.5
"""How much more is prepared than the warm-up, which is slow at first, says will be needed."""


class _Scene(NamedTuple):
    """A load, and the processes whose time counts."""

    load: Workload[Any]
    bank: int
    merchant: int | None
    broker: int | None

    def cpu(self) -> Cpu:
        bank, merchant, broker = (cpu_seconds(pid) if pid else 0.0 for pid in (self.bank, self.merchant, self.broker))
        return Cpu(bank, merchant, broker, time.process_time())


class _Watch:
    """Tells whoever sits at the terminal what is going on, on standard error."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)

    def stage(self, what: str, total: int | None = None) -> Tick:
        for task in self.progress.task_ids:
            self.progress.remove_task(task)
        task = self.progress.add_task(what, total=total)
        return lambda: self.progress.advance(task)


async def measure(plan: Plan) -> Report:
    """Measure in temporary homes; nothing of it is left, whatever happens.

    Raises:
        BenchFailed: if there are no figures.
        NotInstalled, BrokerFailed, NobodyAnswers, PeerError: if something does not run.
    """
    watch = _Watch()
    with watch.progress, tempfile.TemporaryDirectory(prefix="ecash-bench-") as folder:
        watch.stage("making a bank and its keys")
        with running_broker(plan.broker, Path(folder) / "broker") as broker:
            rig = Rig(Path(folder), broker, min(plan.coins, MOST_DENOMINATIONS))
            await rig.enter_keyset()
            async with _scene(rig, plan) as scene:
                trial, cpu, more, openssl = await _measure(scene, plan, watch)
            watch.stage("auditing the bank")
            report = report_of(plan, trial, cpu, openssl, more, is_on_disk(Path(folder)))
            return msgspec.structs.replace(report, faults=(await audit_of(rig.bank_home)).faults)


@asynccontextmanager
async def _scene(rig: Rig, plan: Plan) -> AsyncIterator[_Scene]:
    broker = rig.broker.pid
    with rig.open_bank() as bank:
        if plan.kind == "withdraw":
            async with withdrawals(rig, plan.coins) as withdrawing:
                yield _Scene(withdrawing, bank, None, broker)
        elif plan.kind == "deposit":
            async with deposits(rig, plan.coins) as depositing:
                yield _Scene(depositing, bank, None, broker)
        else:
            await rig.open_account("merchant", SHOP, rig.make_shop())
            with rig.open_shop(rig.worth(rig.denominations(plan.coins))) as shop:
                async with purchases(rig, plan.coins, plan.in_flight) as buying:
                    yield _Scene(buying, bank, shop, broker)


async def _measure(scene: _Scene, plan: Plan, watch: _Watch) -> tuple[Trial, Cpu, dict[str, float], Yardstick]:
    load, in_flight = scene.load, plan.in_flight
    jobs = await load.prepare(plan.warm_up, watch.stage("preparing the warm-up", plan.warm_up))
    warm = await closed_loop(jobs, load.carry_out, in_flight, math.inf, watch.stage("warming up", plan.warm_up))
    expected = math.ceil(warm.per_second * plan.seconds)
    count = math.ceil(expected * _RESERVE) + in_flight
    jobs = await load.prepare(count, watch.stage(f"preparing each {plan.kind}", count))
    watch.stage("openssl speed, before")
    yardstick = await measure_openssl()
    os.sync()
    before, tick = scene.cpu(), watch.stage(f"measuring each {plan.kind}", expected)
    trial = await closed_loop(jobs, load.carry_out, in_flight, plan.seconds, tick)
    cpu = scene.cpu().since(before)
    watch.stage("openssl speed, after")
    return trial, cpu, load.figures(plan.warm_up), Yardstick.mean(yardstick, await measure_openssl())
