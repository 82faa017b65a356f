"""`ecash wallet web` as a process of its own."""

from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from agents.client.cli import app
from agents.demo.processes import running
from tests.conftest import free_port


@pytest.mark.parametrize("where", ["0.0.0.0:8090", "192.0.2.1:8090", "[::]:8090", "wallet.example:8090"])
def test_it_is_for_this_machine_alone(tmp_path: Path, where: str) -> None:
    refused = CliRunner().invoke(app, ["web", "--listen", where, "--home", str(tmp_path)])
    assert refused.exit_code == 1
    assert "for this machine alone" in refused.stderr.replace("\n", " ")


def test_it_serves_a_home_without_a_wallet_and_ends_cleanly(tmp_path: Path) -> None:
    port = free_port()
    with running("client", tmp_path / "alice", "the wallet's page is open", "--listen", f":{port}", command="web"):
        begin = httpx.get(f"http://127.0.0.1:{port}/", follow_redirects=True)
        assert begin.status_code == 200
        assert begin.url.path == "/begin"
        assert httpx.get(f"http://127.0.0.1:{port}/", headers={"Host": "evil.example"}).status_code == 421
    assert f"http://wallet.localhost:{port}/" in (tmp_path / "alice.log").read_text()
