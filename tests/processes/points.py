"""All trace points that the agents have, read from their source and from the tables that their names are made of."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import agents
from agents.bank.desks import DESKS
from protocol import topics

_SOURCE: Final = Path(agents.__file__).parent
_STEPS: Final = ("saving", "saved")
_POSTING: Final = sorted(
    kind
    for kind, serve in DESKS.items()
    if "desk.post(" in inspect.getsource(importlib.import_module(serve.__module__))
)
_SENT: Final = ("exchange", "fetch", "pay", "redeem", "refund", "verdict", "withdraw")
_STATES: Final = {
    "exchange": ("requested", "exchanged"),
    "pay": ("paying", "paid"),
    "redeem": ("requested", "redeemed"),
    "refund": ("requested", "collected"),
    "transfer": ("sent", "closing", "claimed", "takenback"),
    "withdraw": ("requested", "issued"),
}

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "bank.{}.opened": tuple(f"bank.{kind}.opened" for kind in sorted(DESKS)),
    "bank.{}.answering": tuple(f"bank.{kind}.answering" for kind in sorted(DESKS)),
    "bank.{}.posting": tuple(f"bank.{kind}.posting" for kind in _POSTING),
    "bank.{}.posted": tuple(f"bank.{kind}.posted" for kind in _POSTING),
    "merchant.{}.opened": tuple(f"merchant.{kind}.opened" for kind in sorted(topics.MERCHANT_KINDS)),
    "merchant.{}.decided": ("merchant.refund.decided",),
    "merchant.{}.saving": ("merchant.depositing.saving", "merchant.sold.saving"),
    "merchant.{}.saved": ("merchant.depositing.saved", "merchant.sold.saved"),
    "merchant.refund.{}.saving": ("merchant.refund.requested.saving", "merchant.refund.refunded.saving"),
    "merchant.refund.{}.saved": ("merchant.refund.requested.saved", "merchant.refund.refunded.saved"),
    "merchant.payout.{}": ("merchant.payout.requested", "merchant.payout.queued"),
    "wallet.{}.saving": tuple(f"wallet.{kind}.saving" for kind in _STATES),
    "wallet.{}.{}": tuple(f"wallet.{kind}.{state}" for kind, states in _STATES.items() for state in states),
    "wallet.{}.sending": tuple(f"wallet.{kind}.sending" for kind in _SENT),
    "wallet.{}.sent": tuple(f"wallet.{kind}.sent" for kind in _SENT),
}
"""What each name with a hole stands for.

States that only a refusal, a dispute or the end of time leads to are left out.
"""


def patterns() -> frozenset[str]:
    """Return the names of all points in the source, each hole as `{}`."""
    found = set[str]()
    for path in _SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "point":
                found |= set(_names(node.args[0]))
    return frozenset(found)


def _names(argument: ast.expr) -> Iterator[str]:
    match argument:
        case ast.Constant(value=str(name)):
            yield name
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
        case ast.IfExp(body=one, orelse=other):
            yield from (*_names(one), *_names(other))
        case _:
            raise AssertionError(f"nobody can read the name of a point from {ast.unparse(argument)}")


def declared() -> frozenset[str]:
    """Return the names of all points; a name with a hole that `NAMES` does not explain raises KeyError."""
    return frozenset(name for pattern in patterns() for name in (NAMES[pattern] if "{}" in pattern else (pattern,)))
