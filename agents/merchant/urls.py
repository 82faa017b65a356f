"""Which URLs a shop takes."""

from typing import Final
from urllib.parse import urlsplit

MAX_URL: Final = 500


def is_web_url(text: str) -> bool:
    """Tell whether this is an absolute http or https URL of a host, in printable ASCII and without a log-in."""
    if len(text) > MAX_URL or not (text.isascii() and text.isprintable()) or " " in text:
        return False
    try:
        parts = urlsplit(text)
        known_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and known_port


def is_site(text: str) -> bool:
    """Tell whether this is such a URL of a whole site: nothing comes after host and port."""
    return is_web_url(text) and not (urlsplit(text).path.strip("/") or "?" in text or "#" in text)


def is_private(text: str) -> bool:
    """Tell whether nobody can read on the way what is sent to this URL: https, or this very machine."""
    if not is_web_url(text):
        return False
    parts = urlsplit(text)
    host = parts.hostname or ""
    return parts.scheme == "https" or host in ("localhost", "127.0.0.1", "::1") or host.endswith(".localhost")
