"""A part of the targets, in a process of its own."""

import asyncio
import tempfile
import traceback
from pathlib import Path
from typing import Final, NamedTuple

from .fuzz import Finding, Plan, Tally, fuzz
from .say import say
from .source import slug
from .target import DROPPED, REFUSED, TAKEN

SLOW: Final = 0.05
"""An input should take less than this, in seconds of CPU."""


class Share(NamedTuple):
    """What one process does: every so many-th target whose name has a text in it."""

    number: int
    of: int
    target: str
    seed: int
    inputs: int
    seconds: float
    found: str


def work(share: Share) -> tuple[int, int]:
    """Do a share; return how many executions and how many findings there were."""

    def wanted(number: int, name: str) -> bool:
        return share.target in name and number % share.of == share.number

    def tell(name: str, tally: Tally, finding: Finding | None) -> None:
        counts = "".join(f"{tally.outcomes[one]:>9} {one}" for one in (TAKEN, REFUSED, DROPPED))
        speed = f"{tally.executions / max(tally.elapsed, 1e-9):>7.0f} per second"
        slowest = f"slowest {tally.slowest * 1000:6.1f} ms{' (!)' * (tally.slowest > SLOW)}"
        say(f"{name:34}{counts}{speed}  {slowest}  {tally.memory / 2**20:.1f} MiB")
        if finding is not None:
            _keep(Path(share.found), finding)

    plan = Plan(share.seed, share.inputs, share.seconds, wanted)
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(fuzz(Path(folder), plan, tell))
    return report.executions, len(report.findings)


def _keep(folder: Path, finding: Finding) -> None:
    file = folder / slug(finding.target) / "found.bin"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(finding.data)
    shown = "".join(traceback.format_exception(finding.error)[-6:])
    say(f"FOUND in {finding.target}: {len(finding.data)} bytes in {file}: {finding.data[:300]!r}\n{shown}")
