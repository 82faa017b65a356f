from pathlib import Path

from .wear import COMMITS, flip_bits, run_postings, tear_logs


async def test_a_worn_log_gives_a_prefix_of_the_commits_or_is_refused(tmp_path: Path) -> None:
    found, faults = await tear_logs(tmp_path, 36)
    assert faults == []
    assert found.total() == 36 + 5
    assert found["a prefix of the commits"] > 10
    assert found["all commits"] >= 3


async def test_the_run_has_a_state_for_each_commit_in_its_log(tmp_path: Path) -> None:
    worn = await run_postings(tmp_path)
    assert len(set(worn.states)) == len(worn.states) == COMMITS - COMMITS // 4


async def test_a_flipped_bit_is_noticed_or_of_no_effect(tmp_path: Path) -> None:
    found, faults = await flip_bits(tmp_path, 60)
    assert faults == []
    assert found["without effect"] < 60
