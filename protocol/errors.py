"""Two kinds of fault: ours and the peer's.

ProtocolError
├── OurError             an agent's programmer did something illegal: it propagates
│   └── IllegalTransition
└── PeerError            bytes from outside were illegal: becomes a refusal with a stable code
"""

from .refusals import Refusal


class ProtocolError(Exception):
    """Base of all errors of this package; never raised itself."""


class OurError(ProtocolError):
    """The caller broke a rule of the protocol; a bug of the agent."""


class IllegalTransition(OurError):
    """The machine has no such arrow: `event` may not happen in `state`."""

    def __init__(self, state: object, event: object) -> None:
        super().__init__(f"{type(event).__name__} may not happen in {type(state).__name__}")


class PeerError(ProtocolError):
    """What the peer sent is refused.

    Attributes:
        refusal: the stable code of `protocol.refusals`.
        detail: a sentence for the log and the peer; never holds a secret.
    """

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(f"{refusal}: {detail}" if detail else str(refusal))
        self.refusal = refusal
        self.detail = detail
