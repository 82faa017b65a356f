"""What a bank looks at before it serves: that its books are whole, and go as far as what it has told the world.

Books that were restored from an old backup are sound in themselves, and yet coins that were spent since would be taken
again. But the broker keeps the bank's last totals, signed by the bank: books that say less have lost something.
"""

import logging
from typing import Final

from broker.port import Link, LinkError, Outgoing
from protocol import topics
from protocol.errors import PeerError
from protocol.keyset import Keyset, read_keyset
from protocol.messages import Signed, Status
from protocol.refusals import Refusal
from protocol.signatures import Domain
from protocol.totals import Totals, check_growth, open_totals

from ..home import HomeError
from ..requester import NobodyAnswers, asking
from ..world import Clock
from .sqlite import SqliteBooks
from .store import Books
from .totals import count, sign_totals

_log = logging.getLogger("ecash.bank")
PATIENCE_S: Final = 10.0
"""How long the bank waits for what the broker keeps; where nothing is kept, it knows at once."""


async def check_file(books: SqliteBooks) -> None:
    """Look at each page of the file (a second for some hundred megabytes).

    Raises:
        HomeError: the file is damaged; the text says what to do.
    """
    damage = await books.damage()
    if damage:
        told = "; ".join(damage[:3])
        raise HomeError(f"the books are damaged ({told}): do not run them, restore the last good copy of books.db")


async def check_history(
    books: Books, keyset: Keyset, identity_seed: bytes, clock: Clock, link: Link, aside: Link, *, despite_loss: bool
) -> None:
    """Compare the books with the totals that were announced last.

    What anybody else has put there says nothing. Totals are announced within a minute: what was lost of the last one is
    not noticed; and nothing, if the broker keeps nothing or does not answer.

    Args:
        books: those that will be served.
        keyset: the newest one in them.
        identity_seed: 32 bytes, what the bank signs with.
        clock: the bank's.
        link: the bank's presence, entered; it announces that the bank is not open yet.
        aside: another presence that is not entered yet, under an id of its own.
        despite_loss: only warn.

    Raises:
        HomeError: the books have lost something; the text says what to do.
    """
    closed = Outgoing(topics.status(keyset.bank), Status(open=False, lanes=0).encode(), retain=True)
    announced = b""
    try:
        await link.announce(closed)
        announced = await _last_announced(keyset.bank, aside)
    except (LinkError, NobodyAnswers) as error:
        _log.warning("whether the books have lost something is unknown: %s", error)
    told = _own(announced, keyset) if announced else None
    if told is None:
        return
    ours = Totals.decode(sign_totals(await count(books, clock), keyset, identity_seed).statement)
    try:
        check_growth(open_totals(told, await _keyset_of(books, told, keyset)), ours, keyset)
    except PeerError as error:
        loss = f"the books are behind what this bank has announced: {error.detail}"
        if not despite_loss:
            raise HomeError(
                f"{loss}. Were they restored from an old backup? Coins spent since then would be taken again: restore "
                "a newer copy of books.db; if there is none, `ecash bank run --despite-loss` goes on with the damage"
            ) from error
        _log.error("%s; going on all the same, as was asked for", loss)


async def _last_announced(bank: str, aside: Link) -> bytes:
    """Return the totals that the broker keeps; b"" if it keeps none.

    Nothing tells that a topic has no retained message. So another one is asked for afterwards that certainly has one.
    """
    heard = [b""]

    async def take(payload: bytes) -> None:
        heard.append(payload)

    async with asking(aside) as requester:
        await requester.follow(topics.totals(bank), take)
        await requester.retained(topics.status(bank), PATIENCE_S)
    return heard[-1]


async def _keyset_of(books: Books, told: Signed, newest: Keyset) -> Keyset:
    """Return the keyset that totals were made under: it may hold denominations that the newest holds no more."""
    made_under = Totals.decode(told.statement).keyset
    if made_under not in newest.chain:
        return newest
    return read_keyset((await books.keysets())[newest.chain.index(made_under)])


def _own(announced: bytes, keyset: Keyset) -> Signed | None:
    """Return totals if this bank has signed them."""
    try:
        signed = Signed.decode(announced)
        totals = Totals.decode(signed.check(keyset.identity, Domain.TOTALS))
        if totals.bank != keyset.bank:
            raise PeerError(Refusal.WRONG_BANK, f"they are those of bank {totals.bank}")
    except PeerError as error:
        _log.warning("somebody else has announced totals on this bank's topic: %s", error)
        return None
    return signed
