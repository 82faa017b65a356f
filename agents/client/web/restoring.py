"""The work of bringing lost coins back, bank after bank, and how far it is."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ...address import BankAddress
from ..recover import Report, recover, restore, settle_in
from ..wallet import InUse, Wallet
from .house import House
from .telling import EXPECTED, problem_of

TASK = "recovery"
"""Its name among the vault's tasks."""


class Job(NamedTuple):
    """What is to be done at one bank.

    Args:
        address: where.
        restored: whether the wallet is a new one of old words: it becomes the one that the bank serves.
        take_over: whether the account may be taken from another device: its owner has said so.
    """

    address: BankAddress
    restored: bool = False
    take_over: bool = False


@dataclass
class Run:
    """A recovery.

    Attributes:
        jobs: what is to be done.
        keep: whether what is found stays in the wallet as fresh coins.
        bank: where it is now.
        bars: how much of what is done there now, and of how much (0: nobody knows).
        reports: what has come of it, by bank.
        questions: banks whose account another device uses.
        troubles: what did not work: the bank, and a sentence.
        over: whether it has ended.
    """

    jobs: tuple[Job, ...]
    keep: bool
    bank: str = ""
    bars: dict[str, tuple[int, int]] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    questions: list[Job] = field(default_factory=list)
    troubles: list[tuple[str, str]] = field(default_factory=list)
    over: bool = False

    def progress(self, what: str, done: int, total: int) -> None:
        """Take note of how far it is."""
        self.bars[what] = (done, total)


class Recovery:
    """The recovery that is under way, or the last one.

    Args:
        house: whose.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self.run: Run | None = None
        house.vault.at_lock(self._forget)

    def _forget(self) -> None:
        self.run = None

    @property
    def under_way(self) -> bool:
        """Whether it goes on just now."""
        return self.run is not None and not self.run.over

    def start(self, jobs: Iterable[Job], *, keep: bool) -> None:
        """Begin, unless it has begun already."""
        if not self.under_way:
            self._begin(Run(tuple(jobs), keep))

    def _begin(self, run: Run) -> None:
        self.run = run
        self._house.vault.start(TASK, self._work(run))

    def take_over(self, bank: str) -> None:
        """Go on with an account that another device uses: its owner has said so."""
        run = self.run
        if run is None or not run.over:
            return
        asked = [job for job in run.questions if job.address.bank == bank]
        if not asked:
            return
        others = [job for job in run.questions if job not in asked]
        jobs = tuple(job._replace(take_over=True) for job in asked)
        self._begin(Run(jobs, run.keep, reports=run.reports, questions=others, troubles=run.troubles))

    async def _work(self, run: Run) -> None:
        try:
            async with self._house.vault.wallet() as wallet:
                for job in run.jobs:
                    await self._one(wallet, run, job)
        except EXPECTED as error:
            run.troubles.append(("", problem_of(error).what))
        finally:
            run.over = True

    async def _one(self, wallet: Wallet, run: Run, job: Job) -> None:
        name = job.address.bank
        run.bank = name
        run.bars.clear()

        async def confirmed(_: str) -> bool:
            return job.take_over

        try:
            if job.restored or job.take_over:
                await settle_in(wallet, job.address, confirmed)
            bring_back = restore if job.restored else recover
            bank = wallet.bank(name)
            run.reports.append(await bring_back(wallet, bank, keep=run.keep, progress=run.progress))
        except InUse:
            run.questions.append(job)
        except EXPECTED as error:
            run.troubles.append((name, problem_of(error).what))
