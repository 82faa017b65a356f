"""Taking in what a bank announces: a keyset that cannot be trusted is refused loudly, and changes nothing."""

import asyncio
import logging
from typing import Final

from protocol.errors import PeerError
from protocol.keyset import KeyRing, check_successor, open_keyset
from protocol.refusals import Refusal

from .address import BankAddress

_log = logging.getLogger("ecash.keyset")
_CONTRADICTED: Final = "do no business with bank {bank} until it has explained this; what it signed before is kept"
_FOREIGN: Final = "compare the address with bank {bank}, for somebody else may be announcing in its place"
_ADVICE: Final = {
    Refusal.FOREIGN_KEYSET: _CONTRADICTED,
    Refusal.UNKNOWN_DENOMINATION: _CONTRADICTED,
    Refusal.UNKNOWN_VERSION: "a newer version of this program may be needed for bank {bank}",
}


async def accept(address: BankAddress, announced: bytes, known: KeyRing | None) -> KeyRing:
    """Check an announced keyset, against the one that is known if there is one.

    Raises:
        PeerError: if it is not the pinned bank's, or does not continue the known one; the detail says what to do. It
            is logged as an error, too, for nobody may be waiting for it.
    """
    checked = known.ids if known else ()
    try:
        keyset = await asyncio.to_thread(open_keyset, address.bank, address.fingerprint, announced, checked)
        if known is not None:
            check_successor(known.keyset, keyset)
    except PeerError as error:
        advice = _ADVICE.get(error.refusal, _FOREIGN).format(bank=address.bank)
        refused = PeerError(error.refusal, f"{error.detail}: {advice}")
        _log.error("the keyset announced for bank %s is refused: %s", address.bank, refused)
        raise refused from error
    return KeyRing(keyset)
