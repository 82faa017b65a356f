"""No message leaves before what it speaks of is on the disk, as the kernel saw it."""

import sys
from pathlib import Path

import pytest

from .process import agent
from .strace import Answer, What, answers, events, hasty, need_strace, tracing
from .world import Templates, World, check_bought, world_for

CARELESS = Path(__file__).with_name("careless.py")


async def trade(world: World) -> None:
    """Withdraw and buy; the wallet is traced."""
    for number, words in enumerate((("withdraw", "0.20"), ("pay", "shop", "song", "--yes"))):
        command = agent("client", *words, "--home", world.wallet)
        await world.processes.does([*tracing(world.folder / f"wallet-{number}.trace"), *command])


async def test_every_message_of_every_agent_waits_for_the_disk(templates: Templates, tmp_path: Path) -> None:
    need_strace(tmp_path)
    async with world_for("withdraw", templates, tmp_path) as world:
        for name in ("bank", "shop"):
            await world.launch(name, before=tracing(tmp_path / f"{name}.trace"))
        await trade(world)
        await world.close()
        check_bought(await world.reckon())
    seen = {name: list(events(tmp_path / f"{name}.trace")) for name in ("bank", "shop", "wallet-0", "wallet-1")}
    for name, happened in seen.items():
        assert hasty(happened) == [], name
    written_and_synced = {"written": True, "synced": True}
    assert answers(seen["bank"]) == [Answer(kind, **written_and_synced) for kind in ("withdraw", "deposit")]
    assert answers(seen["shop"]) == [Answer(kind, **written_and_synced) for kind in ("order", "pay")]
    for name, kind in (("wallet-0", "withdraw"), ("wallet-1", "pay")):
        what = [event.what for event in seen[name] if event.what is not What.SAID or f"/{kind}/" in event.subject]
        assert what[what.index(What.SAID) - 1] is What.SYNCED, f"{name} asked before it was on the disk"


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
async def test_a_bank_that_does_not_wait_is_seen(synchronous: str, templates: Templates, tmp_path: Path) -> None:
    need_strace(tmp_path)
    trace = tmp_path / "bank.trace"
    async with world_for("withdraw", templates, tmp_path) as world:
        await world.launch("bank", before=tracing(trace), program=[sys.executable, str(CARELESS), synchronous])
        await world.withdraw()
        await world.close()
    assert [topic.split("/")[2] for topic in hasty(events(trace))][:1] == ["reply"]
    assert answers(events(trace)) == [Answer("withdraw", written=True, synced=False)]
