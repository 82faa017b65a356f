"""The simulator itself, and a few dozen of its worlds; `ecash simulate --seeds 10000` runs the others."""

import os

import pytest

from .canary import CANARIES, dead_checkers
from .disk import cut_back
from .report import Report
from .run import run_seed

SEEDS = int(os.environ.get("ECASH_SEEDS", "24"))
FIRST = int(os.environ.get("ECASH_FIRST_SEED", "0"))
_BATCH = 8


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, _BATCH))
def test_in_no_world_is_a_cent_lost_or_made_and_everything_finishes(first: int) -> None:
    report = Report()
    for seed in range(first, min(first + _BATCH, FIRST + SEEDS)):
        report.add(run_seed(seed))
    assert [(result.seed, result.failures) for result in report.failed] == []
    assert report.counts["operation: withdraw: Issued"] > 0


@pytest.mark.parametrize("seed", [3, 12])
def test_a_seed_is_the_same_world_each_time(seed: int) -> None:
    once, again = run_seed(seed), run_seed(seed)
    assert len(once.trace) > 100
    assert again.trace == once.trace
    assert again.counts == once.counts


def test_no_checker_is_dead() -> None:
    assert CANARIES
    assert dead_checkers() == []


def test_a_write_ahead_log_is_cut_back_to_a_commit() -> None:
    header = bytes(8) + (512).to_bytes(4, "big") + bytes(20)
    frame, commit = bytes(24 + 512), bytes(4) + b"\0\0\0\1" + bytes(16 + 512)
    log = header + frame + commit + frame + frame + commit + frame
    assert cut_back(log, lambda commits: commits) == log[: 32 + 5 * len(frame)]
    assert cut_back(log, lambda _: 1) == log[: 32 + 2 * len(frame)]
    assert cut_back(log, lambda _: 0) == header
    assert cut_back(b"", lambda _: 0) == b""
