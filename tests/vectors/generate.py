"""Write `ecash-v1.json`, the test vectors of docs/protocol.md: `python -m tests.vectors.generate [--new-envelopes]`.

Everything follows from fixed seeds but two things that are recorded once: the RSA key, and the envelopes, since HPKE
draws a key for each.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa

from tests.vectors import exchanges, invalid, parts
from tests.vectors.story import Story, plain

PATH: Final = Path(__file__).with_name("ecash-v1.json")

_ABOUT: Final = [
    "Test vectors of the protocol in docs/protocol.md. Bytes are hexadecimal.",
    "Under `fields` a message stands with its fields in their order, and bytes begin with 0x to tell them from text.",
    "EVERY KEY IN THIS FILE IS PUBLIC AND FOR TESTS ONLY.",
]


def new_rsa_key() -> dict[str, str]:
    """Draw the RSA key of the vectors."""
    numbers = rsa.generate_private_key(65537, 2048).private_numbers()
    return {"warning": "public test key", "p": f"{numbers.p:x}", "q": f"{numbers.q:x}"}


def build(recorded: Mapping[str, Any], *, new_envelopes: bool) -> dict[str, Any]:
    """Return all vectors.

    Args:
        recorded: the vectors as they are; their RSA key and envelopes are kept.
        new_envelopes: seal anew.

    Raises:
        ValueError: a recorded envelope does not hold what it should.
    """
    story = Story(int(recorded["rsa"]["p"], 16), int(recorded["rsa"]["q"], 16))
    old = {} if new_envelopes else {one["name"]: bytes.fromhex(one["envelope"]) for one in recorded["envelopes"]}
    envelopes = parts.envelopes(story, old)
    hashes = [hashlib.sha256(one["envelope"]).digest() for one in envelopes]
    answers = parts.answers(story, hashes[0], hashes[4])
    vectors = {
        "about": _ABOUT,
        "rsa": parts.rsa_key(story),
        "wallet": parts.wallet(story),
        "request_id": parts.request_id(story),
        "invitation": parts.invitation(),
        "denomination": parts.denomination(story),
        "keyset": parts.keyset(story),
        "withdrawal": parts.withdrawal(story),
        "order": parts.order(story),
        "payer": parts.payer(story),
        "payment": parts.payment(story),
        "inquiry": parts.inquiry(story),
        "evidence": parts.evidence(story),
        "statements": parts.statements(story),
        "bodies": parts.bodies(story, envelopes[2]["envelope"]),
        "envelopes": envelopes,
        "answers": answers,
        "exchange": exchanges.exchange(story),
        "ticket": exchanges.ticket(story),
        "recovery": exchanges.recovery(story, answers[0]["sealed"], answers[0]["request_hash"]),
        "redemption": exchanges.redemption(story),
        "refund": exchanges.refund(story, envelopes[4]["envelope"], answers[2]["sealed"]),
        "proof": exchanges.proof(story),
        "payout": exchanges.payout(),
        "token": exchanges.token(story),
        "payment_link": exchanges.payment_link(story),
        "lanes": parts.lanes(story),
        "padding": parts.padding(),
        "commission": parts.commission(),
        "invalid": invalid.cases(story, envelopes[0]["envelope"]),
    }
    result = plain(vectors)
    assert isinstance(result, dict)
    return result


def write(vectors: Mapping[str, Any]) -> str:
    """Return the text of the file."""
    return json.dumps(vectors, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> None:
    """Write the file."""
    new = "--new-envelopes" in arguments
    recorded: dict[str, Any] = {"rsa": new_rsa_key(), "envelopes": []}
    if PATH.exists():
        recorded = json.loads(PATH.read_text("utf-8"))
    PATH.write_text(write(build(recorded, new_envelopes=new)), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
