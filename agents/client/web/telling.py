"""What the pages say when something did not work: what happened, and what to do next."""

from typing import Final, NamedTuple

from broker.port import LinkError
from protocol.errors import PeerError
from protocol.refusals import TABLE

from ...home import HomeError
from ...requester import NobodyAnswers
from ..store import CoinsTaken
from ..wallet import WalletError


class Locked(HomeError):
    """The wallet is locked: its passphrase opens it."""


EXPECTED: Final = (CoinsTaken, HomeError, LinkError, NobodyAnswers, PeerError, WalletError)
"""What may happen in a well-made wallet, and is told to its owner."""


class Problem(NamedTuple):
    """A problem as a page tells it: an HTTP status, a heading, and sentences."""

    status: int
    heading: str
    what: str


def problem_of(error: Exception) -> Problem:
    """Return how to tell one of the `EXPECTED` errors."""
    match error:
        case Locked():
            return Problem(403, "The wallet is locked", "Type its passphrase, and try again.")
        case NobodyAnswers():
            told = "Either the other side is not running, or the way to it is broken. Try again in a moment."
            return Problem(504, "Nobody answers", f"{sentence(str(error))} {told}")
        case LinkError():
            told = "Is this machine online? What was begun goes on by itself; try again in a moment."
            return Problem(503, "No connection", f"The way to the bank and the shop is broken ({error}). {told}")
        case PeerError(refusal=refusal, detail=detail):
            more = f" ({detail})" if detail else ""
            return Problem(409, "That was refused", f"{TABLE[refusal].meaning}{more}")
        case CoinsTaken():
            told = "Something else took these coins at the same moment. Nothing was paid: try again."
            return Problem(409, "The coins were in use", told)
        case HomeError():
            return Problem(503, "The wallet cannot be opened", sentence(str(error)))
        case _:
            return Problem(409, "That does not work", sentence(str(error)))


def sentence(text: str) -> str:
    """Return a message as a sentence: with a capital letter in front, and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
