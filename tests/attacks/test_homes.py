"""What lies about when agents have run as processes: logs, files and their modes, a wallet's stolen file."""

import base64
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from agents.client.seed import entropy_of, root_of
from broker.embedded import embedded_broker
from protocol.derivation import Root
from tests.conftest import free_port
from tests.processes.conftest import started, templates
from tests.processes.process import PASSPHRASE, Processes
from tests.processes.world import Templates, World, check_bought

__all__ = ["started", "templates"]  # fixtures
CODE = "Bluesky over the harbour"
CHOSEN = ("pay", "shop", "song", "--yes", "--code", CODE, "--log", "debug")


class Left(NamedTuple):
    """What a purchase has left behind: folders, logs, and what is in none of the logs."""

    world: World
    logs: str
    secrets: dict[str, bytes]


def secrets_of(world: World, root: Root) -> Iterator[tuple[str, bytes]]:
    """Every private key of bank and shop, and all that Alice's wallet keeps or derives."""
    for home in (world.bank, world.shop):
        for path in sorted((home / "keys").rglob("*")):
            if path.is_file():
                yield str(path.relative_to(world.folder)), path.read_bytes()[-32:]
    with closing(sqlite3.connect(world.wallet / "wallet.db")) as db:
        for number, (serial, signature) in enumerate(db.execute("SELECT serial, signature FROM coin")):
            yield f"serial {number}", serial
            yield f"signature {number}", signature
        for (request_id,) in db.execute("SELECT id FROM exchange"):
            for what in ("answer_key", "evidence_key", "payer_salt"):
                yield f"{what} {request_id.hex()[:6]}", getattr(root, what)(request_id)
            for index in range(8):
                yield f"key {index} of {request_id.hex()[:6]}", root.coin(request_id, index)


def spellings(secret: bytes) -> Iterator[bytes]:
    """How a secret may stand in a file or a log."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield base64.b64encode(secret)[:-4]
    yield base64.urlsafe_b64encode(secret)[:-4]
    yield repr(secret)[2:-1].encode()


@pytest.fixture
async def left(tmp_path: Path, templates: Templates, started: Processes) -> Left:
    """Alice has bought a song; everybody has logged at the level debug."""
    with embedded_broker(free_port(), tmp_path / "broker") as url:
        world = templates.with_coins.move(tmp_path, url, started)
        await world.open("bank", "shop", log="debug")
        agents = list(world.agents.values())
        bought = await world.customer(*CHOSEN)
        assert bought.code == 0, bought.stderr
        unlocked = await world.customer("balance", "--log", "debug")
        await world.close()
    check_bought(await world.reckon())
    root = root_of(entropy_of(templates.words))
    logs = "\n".join([*(one.log for one in agents), bought.stderr, unlocked.stderr])
    return Left(world, logs, dict(secrets_of(world, root)))


async def test_processes_that_log_everything_log_no_secret_and_their_files_are_their_owners_alone(left: Left) -> None:
    assert "bank.deposit.posted" in left.logs, "every level was kept"
    assert len(left.secrets) > 30
    logged = left.logs.encode()
    for what, secret in left.secrets.items():
        assert not any(spelling in logged for spelling in spellings(secret)), what
    for text in (CODE, PASSPHRASE):
        assert text not in left.logs
    world = left.world
    for home in (world.bank, world.shop, world.wallet):
        for path in (home, *home.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            if path.is_dir():
                assert mode == 0o700, path
            elif any(part in path.name for part in (".db", "keys")) or "keys" in path.parts or path.suffix == ".toml":
                assert mode & 0o077 == 0 or path.name == "catalog.toml", path

    check_stolen(left)


def check_stolen(left: Left) -> None:
    """A wallet's whole folder holds no key of a coin, no answer key, no code: they derive from the sealed seed."""
    stolen = b"".join(path.read_bytes() for path in sorted(left.world.wallet.rglob("*")) if path.is_file())
    assert sum(secret in stolen for what, secret in left.secrets.items() if what.startswith("serial")) > 1
    for what, secret in left.secrets.items():
        if not what.startswith(("serial", "signature", "bank", "shop")):
            assert not any(spelling in stolen for spelling in spellings(secret)), what
    for text in (CODE, PASSPHRASE):
        assert text.encode() not in stolen
