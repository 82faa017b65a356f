from pathlib import Path

import pytest

from agents.bank.home import Settings
from agents.bank.web import health
from agents.bank.web.health import asks_broker, is_running, size_text
from agents.home import HomeError, locked
from broker.mqtt import MqttLink
from broker.port import Outgoing
from protocol import topics
from protocol.messages import Status
from tests.agents.world import BANK
from tests.conftest import Rig, free_port
from tests.simulation.entropy import SeededEntropy


async def told_by(broker: str, bank: str = BANK) -> str:
    return await asks_broker(Settings(bank, "USD", broker, "presence"), SeededEntropy("health"))()


async def test_the_broker_tells_what_the_bank_has_announced(
    rig: Rig, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PATIENCE_S", 6.0)  # a busy machine may take more than a second to connect
    assert await told_by(str(rig.url), unique) == "it announces nothing of this bank"
    async with MqttLink(rig.log_in(unique), f"{unique}-presence", persistent=False) as link:
        for status, told in (
            (Status(open=True, lanes=4).encode(), "open, on 4 lanes"),
            (Status(open=False, lanes=0).encode(), "it says that the bank is closed"),
            (b"rubbish", "it announces nothing of this bank"),
        ):
            await link.announce(Outgoing(topics.status(unique), status, retain=True))
            assert await told_by(str(rig.url), unique) == told


async def test_a_broker_that_is_away_is_told_without_its_password() -> None:
    port = free_port()
    told = await told_by(f"mqtt://north:sesame@127.0.0.1:{port}")
    assert told == f"not reached within 1 second: mqtt://127.0.0.1:{port}"


def test_looking_whether_a_home_is_held_holds_nothing(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    assert not (tmp_path / "lock").exists()
    with locked(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(HomeError), locked(tmp_path):
            pass
    assert not is_running(tmp_path)
    with locked(tmp_path):
        pass


def test_sizes_are_short() -> None:
    assert [size_text(size) for size in (0, 999, 1000, 4_237_000, 82_600_000_000, 3 * 10**15)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "4.2 MB",
        "82.6 GB",
        "3000.0 TB",
    ]
