from pathlib import Path

from .kinds import KINDS
from .run import run


async def test_whoever_comes_first_of_several_workers_nothing_happens_twice(tmp_path: Path) -> None:
    results = [result async for result in run(tmp_path, races=4, workers=3)]
    assert [result.kind for result in results] == list(KINDS)
    assert [(result.kind, result.faults) for result in results if result.faults] == []
    assert all(result.accepted + result.refused == 4 * 3 for result in results)
    assert all(result.accepted == 4 for result in results if "×" in result.kind and "deadline" not in result.kind)
