import random
from collections import Counter
from pathlib import Path

from .fuzz import fuzz, try_one
from .mutate import mutate
from .target import DROPPED, REFUSED, TAKEN, Target


async def test_nothing_escapes_and_everybody_still_serves(tmp_path: Path) -> None:
    report = await fuzz(tmp_path, 1, executions=1500)
    assert report.finding is None, report.finding
    assert report.executions == 1500
    assert report.count(REFUSED) > 300
    assert report.count(DROPPED) > 100
    assert report.count(TAKEN) > 10


async def test_what_escapes_is_reported_with_its_input() -> None:
    async def fail(data: bytes) -> str:
        raise ValueError

    finding = await try_one(Target("broken", [], fail), b"input", Counter())
    assert finding is not None
    assert (finding.target, finding.data, type(finding.error)) == ("broken", b"input", ValueError)


def test_mutations_follow_from_the_seed() -> None:
    first = [mutate(b"\x93\x01\xa3abc\xc4\x02xy", random.Random(seed)) for seed in range(200)]
    assert first == [mutate(b"\x93\x01\xa3abc\xc4\x02xy", random.Random(seed)) for seed in range(200)]
    assert len(set(first)) > 100
