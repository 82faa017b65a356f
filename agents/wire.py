"""What anybody can read of a message on the wire: the clear header of envelopes, and what is announced in the open."""

from protocol.envelope import VERSION, Suite, recipient_of
from protocol.errors import PeerError
from protocol.keyset import read_keyset
from protocol.messages import Catalog, Signed, Status

_SUITES = {Suite.X25519: "X25519", Suite.MLKEM768_X25519: "ML-KEM-768 + X25519"}


def describe(kind: str, payload: bytes) -> str:
    """Return what is to be read without a key, in a few words; nothing is verified. Answers say nothing."""
    try:
        match kind:
            case "keys":
                keyset = read_keyset(payload)
                return (
                    f"keyset {keyset.number}: {len(keyset.denominations)} denominations, hash {keyset.hash.hex()[:8]}"
                )
            case "catalog":
                catalog = Catalog.decode(Signed.decode(payload).statement)
                return f"{len(catalog.items)} items"
            case "status":
                return "open" if Status.decode(payload).open else "closed"
            case _ if kind.startswith("answer"):
                return ""
            case _:
                key_id = recipient_of(payload)
                return f"v{VERSION}, {_SUITES[Suite(payload[1])]}, for key {key_id.hex()[:8]}"
    except PeerError as error:
        return f"malformed: {error.detail}"
