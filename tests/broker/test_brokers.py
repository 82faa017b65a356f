import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from broker import child
from broker.address import BrokerUrl
from broker.child import BrokerFailed, accepts, running
from broker.configuration import Plan, render
from broker.embedded import embedded_broker
from broker.mosquitto import Mosquitto, NotInstalled, add_password, find, mosquitto_broker
from broker.mqtt import MqttLink
from broker.port import NotAuthorized
from protocol.errors import PeerError
from tests.conftest import free_port


def test_the_embedded_broker_listens_on_loopback_only_and_ends(tmp_path: Path) -> None:
    port = free_port()
    with embedded_broker(port, tmp_path / "made") as url:
        assert url == BrokerUrl("127.0.0.1", port)
        assert accepts(port)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.2", port)) != 0
    assert not accepts(port)


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerFailed, match="taken"), embedded_broker(port, tmp_path):
            pass


def test_a_broker_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such luck')"]
    with pytest.raises(BrokerFailed, match="no such luck"), running(command, free_port(), tmp_path / "log"):
        pass


def test_a_broker_that_never_listens_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "START_S", 0.05)
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    with pytest.raises(BrokerFailed), running(command, free_port(), tmp_path / "log"):
        pass


def test_a_broker_that_does_not_listen_to_reason_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STOP_S", 0.05)
    program = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        child.stop(process)
        assert process.returncode == -9


def test_what_to_install_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("broker.mosquitto._PATH", "")
    with pytest.raises(NotInstalled, match="apt install mosquitto"), mosquitto_broker(free_port(), tmp_path):
        pass


def test_the_configuration_of_the_project_is_set_for_a_folder(tmp_path: Path) -> None:
    lines = render(Plan(port=4711), tmp_path).splitlines()
    assert "listener 4711 127.0.0.1" in lines
    assert f"persistence_location {tmp_path}/" in lines
    assert f"acl_file {tmp_path / 'mosquitto.acl'}" in lines
    assert "autosave_interval 5" in lines
    outside = [line for line in lines if "/etc/" in line or "/var/" in line or "/run/" in line]
    assert all(line.startswith("#") for line in outside)


@pytest.mark.parametrize("name", ["reply", "", "a/b", "a+b", "#", "A", "x" * 33, "-c:x"])
def test_nobody_gets_a_password_under_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(PeerError):
        add_password(tmp_path, name)
    assert not (tmp_path / "passwords").exists()


@pytest.mark.mosquitto
async def test_a_new_password_works_at_once_and_the_old_one_no_more(own_mosquitto: Mosquitto) -> None:
    old = own_mosquitto.log_in("alpha")
    async with MqttLink(old, "alpha-0", persistent=False):
        pass
    new = own_mosquitto.log_in("alpha")
    async with MqttLink(new, "alpha-0", persistent=False):
        pass
    with pytest.raises(NotAuthorized):
        async with MqttLink(old, "alpha-1", persistent=False):
            pass


@pytest.mark.mosquitto
def test_passwords_are_kept_for_their_owner_and_hashed(own_mosquitto: Mosquitto) -> None:
    url = own_mosquitto.log_in("alpha")
    passwords = own_mosquitto.home / "passwords"
    assert passwords.stat().st_mode & 0o777 == 0o600
    assert url.password
    assert url.password not in passwords.read_text()


@pytest.mark.mosquitto
def test_a_broker_that_is_gone_is_not_signalled(tmp_path: Path) -> None:
    find("mosquitto_passwd")
    (tmp_path / "mosquitto.pid").write_text(str(_ended()))
    assert len(add_password(tmp_path, "alpha")) == 32


def _ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, 0)
        raise AssertionError("the id was used again")
    return process.pid
