"""`ecash broker` as it is typed, with a mosquitto that runs as `init` has set it up."""

import asyncio
import json
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner, Result

from agents.broker_cli import app, plan_of
from broker.address import BrokerUrl
from broker.configuration import Plan
from broker.mosquitto import NotInstalled, find, mosquitto_broker
from broker.mqtt import MqttLink
from broker.port import Outgoing
from protocol import topics
from tests.conftest import free_port


def does(home: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--home", str(home)], env={"COLUMNS": "200"})


def init(home: Path, *words: str) -> None:
    ports = [word for name in ("", "tls-", "certificate-") for word in (f"--{name}port", str(free_port()))]
    done = does(home, "init", *ports, *words)
    assert done.exit_code == 0, done.output


def test_without_tls_a_broker_is_for_this_machine_only(tmp_path: Path) -> None:
    init(tmp_path / "broker")
    assert not plan_of(tmp_path / "broker").tls
    assert {path.name for path in (tmp_path / "broker").iterdir()} == {
        "broker.toml",
        "mosquitto.acl",
        "mosquitto.conf",
        "passwords",
    }
    refused = does(tmp_path / "other", "init", "--listen", "0.0.0.0")
    assert refused.exit_code == 1
    assert "over TLS only" in refused.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--tls-cert", "/dev/null"),
        ("--tls-key", "/dev/null"),
        ("--tls-cert", "/nowhere", "--tls-key", "/nowhere"),
        ("--self-signed", "h", "--tls-cert", "/dev/null", "--tls-key", "/dev/null"),
        ("--self-signed", "h", "--listen", "a b"),
        ("--self-signed", "h", "--tls-port", "1883"),
    ],
)
def test_what_makes_no_sense_is_told_and_nothing_is_written(tmp_path: Path, words: tuple[str, ...]) -> None:
    refused = does(tmp_path / "broker", "init", *words)
    assert refused.exit_code in {1, 2}
    assert "error" in refused.stderr.lower()
    assert not (tmp_path / "broker").exists()


def test_init_again_renews_the_certificate_and_keeps_the_authority_and_the_log_ins(tmp_path: Path) -> None:
    home = tmp_path / "broker"
    init(home, "--self-signed", "broker.example")
    (home / "passwords").write_text("kept")
    kept, renewed = (home / "ca.crt").read_bytes(), (home / "server.crt").read_bytes()
    init(home, "--self-signed", "127.0.0.1", "--websockets")
    assert plan_of(home).websockets
    assert (home / "ca.crt").read_bytes() == kept
    assert (home / "passwords").read_text() == "kept"
    assert (home / "server.crt").read_bytes() != renewed
    modes = {path.name: path.stat().st_mode & 0o777 for path in home.iterdir()}
    assert {name for name, mode in modes.items() if mode & 0o077} == {"ca.crt", "mosquitto.conf"}


def test_a_certificate_from_elsewhere_is_named_where_it_is(tmp_path: Path) -> None:
    init(tmp_path / "one", "--self-signed", "broker.example")
    certificate, key = tmp_path / "one/server.crt", tmp_path / "one/server.key"
    init(tmp_path / "two", "--tls-cert", str(certificate), "--tls-key", str(key))
    plan = plan_of(tmp_path / "two")
    assert (plan.certificate, plan.key) == (str(certificate), str(key))
    printed = does(tmp_path / "two", "certificate", "shop", "--host", "broker.example").stdout.strip()
    url = BrokerUrl.parse(printed)
    assert (url.host, url.port, url.ca) == ("broker.example", plan.certificate_port, None)  # the system knows it
    assert url.cert
    assert url.cert.stat().st_mode & 0o777 == 0o600
    (name,) = x509.load_pem_x509_certificate(url.cert.read_bytes()).subject
    assert name.value == "shop"


@pytest.mark.parametrize("name", ["reply", "Bank", "a b", "", "*"])
def test_nobody_gets_a_certificate_under_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    init(tmp_path / "broker", "--self-signed", "localhost")
    assert does(tmp_path / "broker", "certificate", name).exit_code == 1


def test_without_tls_there_are_no_certificates(tmp_path: Path) -> None:
    refused = does(tmp_path / "broker", "certificate", "bank")
    assert refused.exit_code == 1
    assert "ecash broker init --self-signed" in refused.stderr


def test_an_engine_that_is_none_is_told(tmp_path: Path) -> None:
    assert "embedded or mosquitto" in does(tmp_path, "run", "--engine", "other").stderr


def test_a_home_whose_settings_are_wrong_is_told(tmp_path: Path) -> None:
    (tmp_path / "broker.toml").write_text("port = 'x'\n")
    assert "broker.toml" in does(tmp_path, "run", "--engine", "mosquitto").stderr


def test_check_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    init(tmp_path / "broker")
    config = tmp_path / "broker/mosquitto.conf"
    good = CliRunner().invoke(app, ["check", "--config", str(config), "--json"])
    assert good.exit_code == 0
    assert all(one["good"] and not one["advice"] for one in json.loads(good.stdout))
    config.write_text(config.read_text().replace("127.0.0.1", "0.0.0.0"))
    bad = does(tmp_path / "broker", "check")
    assert bad.exit_code == 1
    (line,) = [line for line in bad.stdout.splitlines() if "✗" in line]
    assert "over TLS only" in line
    assert "certfile and keyfile" in line


@pytest.mark.mosquitto
async def test_a_bank_logs_in_at_a_broker_as_it_was_set_up_and_check_finds_no_fault(tmp_path: Path) -> None:
    try:
        find("mosquitto")
    except NotInstalled as missing:
        pytest.skip(str(missing))
    home = tmp_path / "broker"
    init(home, "--self-signed", "localhost")
    plan = plan_of(home)
    assert plan != Plan()
    with mosquitto_broker(plan, home):
        urls = [does(home, command, "bank").stdout.strip() for command in ("certificate", "grant")]
        for text in urls:
            async with MqttLink(BrokerUrl.parse(text), "bank-0", persistent=False) as link:
                await link.publish(Outgoing(topics.status("bank"), b"here", retain=True))
        checked = await asyncio.to_thread(does, home, "check")
        assert checked.exit_code == 0, checked.output
        assert "nothing forged is delivered" in checked.stdout
        unknown = f"mqtts://localhost:{plan.tls_port}"
        strange = await asyncio.to_thread(does, tmp_path / "none", "check", "--broker", unknown)
        assert strange.exit_code == 1
        assert "ECASH_BROKER_CA" in strange.stderr
