"""Does a mosquitto's configuration keep our rules? Read from its files; `broker.probe` asks the broker itself."""

import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509

from .configuration import RIGHTS, Configuration, Listener, shipped
from .port import MAX_PAYLOAD

RENEW_DAYS: Final = 14
"""A certificate that ends sooner than this is to be renewed."""

_FRAME: Final = 65_536  # a topic and properties, at most
_SAVED_S: Final = 60
_OLD_TLS: Final = frozenset({"tlsv1", "tlsv1.0", "tlsv1.1"})
_BOUNDED: Final = ("max_inflight_messages", "max_queued_messages", "max_queued_bytes", "max_keepalive")


class Finding(NamedTuple):
    """A rule, whether it is kept, and what to do if not."""

    rule: str
    good: bool
    advice: str


def check_files(path: Path, now: datetime.datetime) -> list[Finding]:
    """Check a mosquitto.conf and the files that it names.

    Args:
        path: the configuration.
        now: a time with its zone, for the certificates' dates.
    """
    try:
        found = Configuration.parse(path.read_text())
    except (OSError, ValueError) as error:
        return [Finding("the configuration can be read", good=False, advice=f"{path}: {error}")]
    findings = [*_entrance(found), *_storage(found), *_limits(found), *_privacy(found)]
    for listener in found.listeners:
        findings += _listener(listener, now)
    return findings


def _entrance(found: Configuration) -> Iterator[Finding]:
    options = found.options
    yield Finding("it has listeners", bool(found.listeners), "without one mosquitto invents its own")
    yield Finding(
        "the same rights hold at every listener",
        options.get("per_listener_settings", "false") == "false",
        "remove per_listener_settings",
    )
    yield Finding("buyers come in anonymously", options.get("allow_anonymous") == "true", "allow_anonymous true")
    rights = _text(options.get("acl_file"))
    yield Finding("it has rights", rights is not None, "acl_file FILE, a copy of the project's mosquitto.acl")
    if rights is not None:
        same = _meaning(rights) == _meaning(shipped(RIGHTS))
        yield Finding("its rights are this version's", same, f"copy mosquitto.acl over {options['acl_file']}")
    passwords = options.get("password_file")
    yield Finding(
        "log-ins have passwords that only the broker reads",
        bool(passwords) and _is_private(Path(passwords or "")),
        "password_file FILE, of mode 0600 or 0640",
    )
    yield Finding(
        "client ids are what clients say they are",
        all("use_username_as_clientid" not in one.options for one in found.listeners),
        "remove use_username_as_clientid: a buyer could throw out a bank, whose id everybody would know",
    )


def _storage(found: Configuration) -> Iterator[Finding]:
    options = found.options
    kept = options.get("persistence") == "true"
    yield Finding("sessions are kept over a restart", kept, "persistence true")
    interval = _number(options, "autosave_interval")
    saved = options.get("autosave_on_changes", "false") == "false" and 0 < interval <= _SAVED_S
    yield Finding(
        "they are saved every few seconds",
        saved,
        "autosave_interval 5 and autosave_on_changes false: seconds, not changes",
    )
    yield Finding(
        "announcements are kept for those who come later",
        options.get("retain_available", "true") == "true",
        "retain_available true",
    )
    yield Finding(
        "sessions of those who never come back end",
        "persistent_client_expiration" in options,
        "persistent_client_expiration 7d",
    )


def _limits(found: Configuration) -> Iterator[Finding]:
    packet = _number(found.options, "max_packet_size")
    yield Finding(
        "a packet is bounded, and large enough for a payload of 1 MiB",
        MAX_PAYLOAD < packet <= MAX_PAYLOAD + _FRAME,
        f"max_packet_size {MAX_PAYLOAD + _FRAME}",
    )
    payload = _number(found.options, "message_size_limit")
    yield Finding(
        "a payload is bounded in websockets, too, at 1 MiB", payload == MAX_PAYLOAD, f"message_size_limit {MAX_PAYLOAD}"
    )
    unbounded = [name for name in _BOUNDED if _number(found.options, name) <= 0]
    yield Finding("windows and queues are bounded", not unbounded, f"set {', '.join(unbounded)}")
    open_ended = [one.port for one in found.listeners if _number(one.options, "max_connections") <= 0]
    yield Finding(
        "connections are bounded", not open_ended, f"max_connections below listener {', '.join(map(str, open_ended))}"
    )


def _privacy(found: Configuration) -> Iterator[Finding]:
    options = found.options
    quiet = options.get("connection_messages") == "false"
    yield Finding("who connects is not logged", quiet, "connection_messages false")
    talkative = {"all", "debug", "subscribe", "unsubscribe"} & set(options.get("log_type", "all").split())
    yield Finding(
        "who asks for what is not logged", not talkative, "log_type error, warning and notice, each on a line"
    )


def _listener(listener: Listener, now: datetime.datetime) -> Iterator[Finding]:
    where, options = f"port {listener.port}", listener.options
    certificate, key = options.get("certfile"), options.get("keyfile")
    encrypts = bool(certificate and key)
    yield Finding(
        f"{where}: other machines are served over TLS only",
        encrypts or listener.on_loopback,
        f"certfile and keyfile below it, or `listener {listener.port} 127.0.0.1`",
    )
    if certificate and key:
        modern = options.get("tls_version", "tlsv1.2") not in _OLD_TLS
        yield Finding(f"{where}: TLS is 1.2 or newer", modern, "tls_version tlsv1.2")
        yield from _certificate(where, Path(certificate), Path(key), now)
    by_certificate = options.get("require_certificate") == "true", options.get("use_identity_as_username") == "true"
    if any(by_certificate):
        yield Finding(
            f"{where}: the certificate is the log-in",
            all(by_certificate) and "cafile" in options,
            "cafile, require_certificate true and use_identity_as_username true belong together",
        )


def _certificate(where: str, certificate: Path, key: Path, now: datetime.datetime) -> Iterator[Finding]:
    yield Finding(f"{where}: only the broker reads its private key", _is_private(key), f"chmod 600 {key}")
    try:
        found = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        yield Finding(f"{where}: certificate and key are one pair", good=False, advice=f"{certificate}: {error}")
        return
    yield Finding(f"{where}: certificate and key are one pair", good=True, advice="")
    last = found.not_valid_after_utc
    lasts = found.not_valid_before_utc <= now and last - now > datetime.timedelta(days=RENEW_DAYS)
    yield Finding(f"{where}: the certificate is valid until {last:%Y-%m-%d}", lasts, "renew it, and restart the broker")


def _meaning(rights: str) -> list[str]:
    return [line for line in map(str.strip, rights.splitlines()) if line and not line.startswith("#")]


def _text(path: str | None) -> str | None:
    try:
        return None if path is None else Path(path).read_text()
    except (OSError, ValueError):
        return None


def _is_private(path: Path) -> bool:
    """True if the file is there, its group cannot write it, and others can do nothing with it."""
    try:
        return path.is_file() and not path.stat().st_mode & 0o027
    except OSError:
        return False


def _number(options: dict[str, str], name: str) -> int:
    text = options.get(name, "")
    return int(text) if text.isdecimal() else -1
