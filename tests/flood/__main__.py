"""Measure what a flood of requests does to the others: `python -m tests.flood [--seconds N] [--clients N] [--kind …]`.

A real mosquitto, a bank as a process with its usual settings, and honest clients, each of which withdraws a few coins,
rests a moment, and withdraws again; first among themselves, then beside floods from another process:

junk      bytes that do not open, as many as one client can publish
costly    withdrawals of many coins, well-formed and signed, from one client
account   the same, for one account, from many clients at once
"""

import argparse
import asyncio
import json
import math
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from agents.bench.load import cpu_seconds, percentile_ms
from agents.bench.rig import BANK, Rig, running_broker
from agents.bench.withdraw import Sealed, Withdrawals
from agents.client.wallet import Wallet
from agents.requester import Requester, pause_ms
from protocol.answer import open_answer
from protocol.envelope import request_hash
from protocol.machine import Send, backoff
from protocol.messages import BlindedCoin, WithdrawRequest
from protocol.wallet import withdrawal

KINDS: Final = ("junk", "costly", "account")
COINS: Final = 4
REST_S: Final = 0.2
COSTLY: Final = 100
"""Coins in each withdrawal of the flood: as many as the bank takes."""
MANY: Final = 50
"""Client ids of the flood from one account."""
READY: Final = 400
"""Withdrawals that the flooder has in store; then it begins anew."""


class Phase(NamedTuple):
    """What the honest clients saw: seconds of each withdrawal, how many were sent again, and what the flood was."""

    name: str
    latencies: Sequence[float]
    repeated: int
    published: int
    bank_cpu: float
    seconds: float

    def __str__(self) -> str:
        p50, p99 = (percentile_ms(self.latencies, part) for part in (0.5, 0.99))
        return (
            f"{self.name:<8} p50 {p50:7.1f} ms  p99 {p99:7.1f} ms  longest {max(self.latencies) * 1000:7.1f} ms  "
            f"{len(self.latencies):4} withdrawals, {self.repeated:3} sent again  "
            f"flood {self.published / self.seconds:7,.0f} /s  bank {self.bank_cpu / self.seconds:4.0%} of a core"
        )


class Honest:
    """A client that withdraws and rests, in turns."""

    def __init__(self, rig: Rig, wallet: Wallet, requester: Requester) -> None:
        self._rig = rig
        self._wallet = wallet
        self._requester = requester
        self._source = Withdrawals(rig, wallet, requester, rig.denominations(COINS))
        self.latencies: list[float] = []
        self.repeated = 0

    async def work(self, jobs: Sequence[Sealed], until: float) -> None:
        """Carry jobs out until then."""
        for job in jobs:
            if time.perf_counter() >= until:
                return
            await asyncio.sleep(REST_S * secrets.randbelow(1000) / 500)
            begun = time.perf_counter()
            await self._ask(job)
            self.latencies.append(time.perf_counter() - begun)

    async def prepare(self, count: int) -> Sequence[Sealed]:
        """Write so many withdrawals."""
        return await self._source.prepare(count, lambda: None)

    async def _ask(self, job: Sealed) -> None:
        keyset, entropy = self._rig.keyset, self._wallet.entropy

        async def send(attempt: int) -> None:
            self.repeated += attempt > 0
            await self._requester.send(Send(BANK, job.kind, job.request_id, job.envelope, attempt), keyset.limits.lanes)

        def read(sealed: bytes) -> int | None:
            return pause_ms(open_answer(keyset.identity, job.answer_key, request_hash(job.envelope), sealed), entropy)

        waits = (backoff(attempt, entropy.jitter()) for attempt in range(20))
        if await self._requester.ask(job.request_id, send, waits, read) is None:
            raise RuntimeError("an honest client was not served")


def costly_requests(rig: Rig, wallet: Wallet, folder: Path) -> Path:
    """Write the flood's withdrawals into a file: their blinded values are random, which the bank cannot see."""
    path = folder / "costly"
    (denomination, *_) = rig.denominations(1)
    commission = rig.keyset.tariff.withdrawal.charge(rig.worth([denomination] * COSTLY))
    requests = []
    for _ in range(READY):
        coins = tuple(BlindedCoin(denomination, b"\1" + secrets.token_bytes(255)) for _ in range(COSTLY))
        body = WithdrawRequest(wallet.bank().row.generation, commission, coins, ())
        requests.append(wallet.seal_for_bank(wallet.bank(), withdrawal.KIND, wallet.new_id(), body).hex())
    path.write_text(json.dumps(requests))
    return path


@contextmanager
def flooding(rig: Rig, kind: str, costly: Path) -> Iterator["subprocess.Popen[str] | None"]:
    """Run the flooder of this kind, or none."""
    if kind not in KINDS:
        yield None
        return
    clients, source = (MANY if kind == "account" else 1), ("" if kind == "junk" else str(costly))
    command = [sys.executable, "-m", "tests.flood.flooder", str(rig.address.broker.port), BANK, str(clients), source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


async def phase(rig: Rig, bank: int, honest: Sequence[Honest], kind: str, seconds: float, costly: Path) -> Phase:
    """Measure what the honest clients see beside a flood."""
    jobs = [await one.prepare(math.ceil(seconds / REST_S)) for one in honest]
    for one in honest:
        one.latencies.clear()
        one.repeated = 0
    with flooding(rig, kind, costly) as process:
        before, begun = cpu_seconds(bank), time.perf_counter()
        await asyncio.gather(*(one.work(its, begun + seconds) for one, its in zip(honest, jobs, strict=True)))
        lasted, cpu = time.perf_counter() - begun, cpu_seconds(bank) - before
        published = int(process.communicate("\n")[0]) if process else 0
    latencies = [latency for one in honest for latency in one.latencies]
    return Phase(kind, latencies, sum(one.repeated for one in honest), published, cpu, lasted)


async def measure(kinds: Sequence[str], clients: int, seconds: float) -> None:
    """Print a line for each kind of flood."""
    with tempfile.TemporaryDirectory(prefix="ecash-flood-") as name, running_broker("mosquitto", Path(name)) as broker:
        folder = Path(name)
        rig = Rig(folder, broker, 8, {})
        await rig.enter_keyset()
        with rig.open_bank() as bank:
            async with AsyncExitStack() as stack:
                flooder = await stack.enter_async_context(rig.customer("flooder"))
                costly = costly_requests(rig, flooder, folder)
                honest = []
                for index in range(clients):
                    wallet = await stack.enter_async_context(rig.customer(f"honest-{index}"))
                    requester = await stack.enter_async_context(wallet.presence(rig.address.broker))
                    honest.append(Honest(rig, wallet, requester))
                for kind in kinds:
                    sys.stdout.write(f"{await phase(rig, bank, honest, kind, seconds, costly)}\n")
                    sys.stdout.flush()
        log = (folder / f"{BANK}.log").read_text(errors="replace").splitlines()
        sys.stdout.write("".join(f"{line}\n" for line in log if "more requests" in line))
        sys.stdout.write(f"the bank logged {len(log)} lines\n")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.flood")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each flood lasts")
    parser.add_argument("--clients", type=int, default=10, help="honest ones")
    parser.add_argument("--kind", choices=KINDS, action="append", help="all, if none is named")
    arguments = parser.parse_args()
    asyncio.run(measure(["none", *(arguments.kind or KINDS)], arguments.clients, arguments.seconds))


if __name__ == "__main__":
    main()
