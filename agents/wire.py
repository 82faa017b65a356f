"""What anybody can read of a message on the wire: its clear header, and what is announced in the open."""

from protocol.envelope import HEADER_BYTES, VERSION, Suite

_SUITES = {suite.value: name for suite, name in ((Suite.X25519, "X25519"), (Suite.MLKEM768_X25519, "X25519+ML-KEM"))}


def describe(payload: bytes) -> str:
    """Return the clear part of an envelope or answer in a few words, or nothing if it is neither.

    An envelope shows version, suite and the recipient's key id; an answer shows its version and nothing else that
    says more than its topic.
    """
    if len(payload) <= HEADER_BYTES or payload[0] != VERSION:
        return ""
    suite = _SUITES.get(payload[1])
    if suite is None:
        return ""
    return f"v{payload[0]} {suite} for key {payload[2:HEADER_BYTES].hex()[:8]}"
