import datetime
import re
from pathlib import Path

import pytest

from broker.certificates import server_certificate
from broker.checklist import RENEW_DAYS, check_files
from broker.configuration import CERTIFICATE, CONFIGURATION, KEY, OPERATOR, RIGHTS, Configuration, Plan, render, shipped
from broker.mosquitto import configure

from .town import NOW, certify

EVERYTHING = Plan(tls=True, websockets=True)


def test_the_operators_file_is_what_is_generated() -> None:
    assert render(OPERATOR, None) == shipped(CONFIGURATION)


def test_what_is_generated_differs_from_the_operators_file_in_paths_hosts_and_ports_only(tmp_path: Path) -> None:
    plan = Plan(4001, tls=True, listen="broker.example", tls_port=4002, certificate_port=4003, websockets=True)
    ours, theirs = render(plan, tmp_path).splitlines(), shipped(CONFIGURATION).splitlines()
    changed = {one.split()[0] for one, other in zip(ours, theirs, strict=True) if one != other}
    files = {"password_file", "acl_file", "cafile", "certfile", "keyfile"}
    assert changed == {"user", "pid_file", "log_dest", "persistence_location", "listener"} | files
    assert {f"listener {port}" for port in ("4001 127.0.0.1", "4002 broker.example", "4003 broker.example")} <= set(
        ours
    )


@pytest.mark.parametrize(
    ("plan", "ports"),
    [
        (Plan(), [1883]),
        (Plan(websockets=True), [8083, 1883]),
        (Plan(tls=True), [8883, 8884, 1883]),
        (EVERYTHING, [8883, 8884, 8084, 8083, 1883]),
    ],
)
def test_only_what_is_wanted_listens_and_without_tls_on_loopback_only(
    plan: Plan, ports: list[int], tmp_path: Path
) -> None:
    listeners = Configuration.parse(render(plan, tmp_path)).listeners
    assert [one.port for one in listeners] == ports
    assert all(one.on_loopback or "certfile" in one.options for one in listeners)
    assert [one.port for one in listeners if "require_certificate" in one.options] == [8884][: plan.tls]


@pytest.mark.parametrize(
    "wrong",
    [
        {"listen": "host\nallow_anonymous true"},
        {"listen": "a b"},
        {"certificate": "/a\nb"},
        {"key": "/a\x00b"},
        {"port": 8883, "tls": True},
        {"port": 0},
        {"tls": True, "tls_port": 65_536},
    ],
)
def test_a_plan_that_would_write_lines_of_its_own_or_cannot_be_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"listen|certificate"):
        Plan(**wrong)  # type: ignore[arg-type]


def test_a_folder_whose_name_would_write_lines_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="printable"):
        render(Plan(), tmp_path / "a\nb")


def test_a_template_without_a_line_that_is_to_be_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shipped(CONFIGURATION).replace("password_file", "#password_file")
    monkeypatch.setattr("broker.configuration.shipped", lambda _: text)
    with pytest.raises(ValueError, match="password_file"):
        render(OPERATOR, None)


def faults(home: Path, now: datetime.datetime = NOW) -> list[str]:
    return [one.rule for one in check_files(home / CONFIGURATION, now) if not one.good]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A broker's folder that keeps every rule."""
    home = tmp_path / "broker"
    configure(EVERYTHING, home)
    certify(home, "localhost")
    assert faults(home) == []
    return home


@pytest.mark.parametrize(
    ("line", "instead", "rule"),
    [
        (r"(?s).*", "", "it has listeners"),
        ("allow_anonymous .*", "allow_anonymous false", "buyers come in anonymously"),
        ("allow_anonymous .*", "", "buyers come in anonymously"),
        ("acl_file .*", "", "it has rights"),
        ("acl_file .*", "acl_file /nowhere", "it has rights"),
        ("password_file .*", "", "log-ins have passwords that only the broker reads"),
        ("password_file .*", "password_file /nowhere", "log-ins have passwords that only the broker reads"),
        ("^persistence .*", "persistence false", "sessions are kept over a restart"),
        ("autosave_interval .*", "", "they are saved every few seconds"),
        ("autosave_interval .*", "autosave_interval 1800", "they are saved every few seconds"),
        ("autosave_on_changes .*", "autosave_on_changes true", "they are saved every few seconds"),
        ("retain_available .*", "retain_available false", "announcements are kept for those who come later"),
        ("persistent_client_expiration .*", "", "sessions of those who never come back end"),
        ("max_packet_size .*", "", "a packet is bounded, and large enough for a payload of 1 MiB"),
        ("max_packet_size .*", "max_packet_size 20000", "a packet is bounded, and large enough for a payload of 1 MiB"),
        ("message_size_limit .*", "", "a payload is bounded in websockets, too, at 1 MiB"),
        ("max_queued_messages .*", "max_queued_messages 0", "windows and queues are bounded"),
        ("max_inflight_messages .*", "max_inflight_messages 0", "windows and queues are bounded"),
        ("max_connections 1000", "", "connections are bounded"),
        ("max_connections 1000", "max_connections -1", "connections are bounded"),
        ("connection_messages .*", "connection_messages true", "who connects is not logged"),
        ("log_type notice", "log_type all", "who asks for what is not logged"),
        ("log_type .*", "", "who asks for what is not logged"),
        ("set_tcp_nodelay .*", "per_listener_settings true", "the same rights hold at every listener"),
        ("listener 1883.*", "listener 1883", "port 1883: other machines are served over TLS only"),
        ("listener 8083.*", "listener 8083 0.0.0.0", "port 8083: other machines are served over TLS only"),
        ("listener 1883.*", "listener 1883 myhost", "port 1883: other machines are served over TLS only"),
        ("tls_version .*", "tls_version tlsv1.1", "port 8883: TLS is 1.2 or newer"),
        ("require_certificate .*", "", "port 8884: the certificate is the log-in"),
        ("use_identity_as_username .*", "", "port 8884: the certificate is the log-in"),
        ("cafile .*", "", "port 8884: the certificate is the log-in"),
        ("listener 8884", "listener 8884\nuse_username_as_clientid true", "client ids are what clients say they are"),
        ("listener 8883", "listener x", "the configuration can be read"),
    ],
)
def test_a_line_that_breaks_a_rule_is_found(home: Path, line: str, instead: str, rule: str) -> None:
    path = home / CONFIGURATION
    text, count = re.subn(line, instead, path.read_text(), flags=re.MULTILINE)
    assert count
    path.write_text(text)
    assert rule in faults(home)


def test_rights_that_differ_are_found_but_not_remarks(home: Path) -> None:
    path = home / RIGHTS
    path.write_text("# hello\n\n" + path.read_text())
    assert faults(home) == []
    path.write_text(path.read_text() + "topic readwrite #\n")
    assert faults(home) == ["its rights are this version's"]


@pytest.mark.parametrize("name", ["passwords", KEY])
@pytest.mark.parametrize("mode", [0o644, 0o620, 0o602, 0o601])
def test_a_secret_that_others_can_read_or_change_is_found(home: Path, name: str, mode: int) -> None:
    (home / name).chmod(0o640)
    assert faults(home) == []
    (home / name).chmod(mode)
    assert faults(home)


def test_a_certificate_that_ends_soon_or_has_not_begun_is_found(home: Path) -> None:
    last = datetime.timedelta(days=398)
    for now in (NOW + last - datetime.timedelta(days=RENEW_DAYS - 1), NOW + last * 2, NOW - last):
        assert [rule.partition(": ")[2][:30] for rule in faults(home, now)] == [
            "the certificate is valid until "[:30]
        ] * 3
    assert faults(home, NOW + last - datetime.timedelta(days=RENEW_DAYS + 1)) == []


@pytest.mark.parametrize("content", [None, b"", b"none"])
def test_a_certificate_that_is_none_is_found(home: Path, content: bytes | None) -> None:
    path = home / CERTIFICATE
    path.unlink() if content is None else path.write_bytes(content)
    assert faults(home) == [f"port {port}: certificate and key are one pair" for port in (8883, 8884, 8084)]


def test_another_certificates_key_is_found(home: Path) -> None:
    authority = certify(home, "localhost")
    (home / KEY).write_bytes(server_certificate(authority, "localhost", NOW).key)
    assert faults(home) == [f"port {port}: certificate and key are one pair" for port in (8883, 8884, 8084)]


def test_a_configuration_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert faults(tmp_path) == ["the configuration can be read"]
