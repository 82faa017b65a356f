"""The port through which an agent speaks to the others: `Link`.

A server agent (bank, merchant) gives `serve` a handler that returns the answer; a requester gives it a
handler that takes the answers in and returns nothing:

    async with link:
        await link.subscribe(*filters)
        async with asyncio.TaskGroup() as group:
            group.create_task(link.serve(handle))
            await link.publish(Outgoing(topic, payload, correlation=request_id))

Delivery is *at least once and not quite always*: brokers lose acknowledged messages in ordinary cases. A
requester repeats the same bytes until it is answered; a server stores its answers by request id.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

MAX_PAYLOAD: Final = 1 << 20
"""The largest payload in bytes that a link sends; brokers are configured to take a little more."""


class LinkError(Exception):
    """Base of what can go wrong between an agent and the broker."""


class LinkDown(LinkError):
    """No connection, or it was lost before the broker acknowledged. Repeat later: it may have arrived."""


class NotDelivered(LinkError):
    """Nobody subscribes to the topic (MQTT 5 reason 0x10). Not every broker tells."""


class NotAuthorized(LinkError):
    """The broker refused the log-in, the publication or the subscription (MQTT 5: 0x86, 0x87, 0x90 …)."""


class NotTrusted(LinkError):
    """The broker does not prove that it is the one we mean: its TLS certificate is another's, expired, or unknown."""


class TooLarge(LinkError):
    """The payload is larger than `MAX_PAYLOAD`; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that has arrived.

    Attributes:
        topic: what it was published on; brokers vouch for the client id in it, if they have rights.
        payload: bytes from outside; as large as the broker lets through.
        retained: True when the broker kept it and it was published before we subscribed. A *request* that is
            retained is not one: whoever serves requests drops it.
        correlation: the correlation data property, a hint only (the authenticated id is inside the payload).
    """

    topic: str
    payload: bytes
    retained: bool = False
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish with QoS 1.

    Attributes:
        topic: one of `protocol.topics`.
        payload: at most `MAX_PAYLOAD` bytes.
        retain: the broker keeps it as the topic's last message; an empty payload clears it.
        correlation: the correlation data property: the request id, in requests and in their answers.
        expiry_s: seconds after which the broker may drop it undelivered. A hint: not every broker does.
    """

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None
    expiry_s: int | None = None


Handler = Callable[[Incoming], Awaitable[Outgoing | None]]
"""Takes one message; returns the answer to publish, or None, *after* its effect is durable.

It may be called again with a message it has had (redelivery), and for several messages at once. It must not
wait for another message of the same link: acknowledgements leave in order of arrival, so that could wait
forever. `PeerError` and `LinkError` are expected from it and pass silently; anything else is logged and
counted. All are acknowledged: a message that cannot be handled must not block the ones behind it.
"""


@dataclass(slots=True)
class Counters:
    """What a link has done since it was made.

    Attributes:
        connects: connections that were accepted and subscribed.
        received: messages given to the handler.
        answered: answers that the broker acknowledged.
        unheard: answers that could not be delivered; the asker is away and will ask again.
        refused: handlers that ended in `PeerError` or `LinkError`.
        failed: handlers that ended in any other exception.
    """

    connects: int = 0
    received: int = 0
    answered: int = 0
    unheard: int = 0
    refused: int = 0
    failed: int = 0


class Link(Protocol):
    """One agent's presence at a broker, under one client id.

    It connects again by itself, with back-off and jitter, subscribes again and announces again each time. As
    a context manager it enters when the first connection stands. Leaving it publishes the last will (if there
    is one) and disconnects; cancellation does the same.
    """

    @property
    def client_id(self) -> str:
        """The id of the presence: lower-case letters, digits and hyphens, at most 64."""
        ...

    @property
    def connected(self) -> bool:
        """True while a connection stands and its subscriptions are granted."""
        ...

    @property
    def counters(self) -> Counters:
        """The figures so far."""
        ...

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            NotAuthorized: the broker refuses the log-in.
            NotTrusted: the broker does not prove who it is, or a certificate's file cannot be used.
            LinkDown: no connection within the link's patience.
        """
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Publish the last will, disconnect, forget the subscriptions of an ephemeral presence."""
        ...

    async def wait_connected(self) -> None:
        """Return as soon as `connected`."""
        ...

    async def subscribe(self, *filters: str) -> None:
        """Add topic filters, now and after every reconnection. Returns when the broker has granted them.

        While there is no connection they are only noted, for the next one. That a broker grants does not mean
        that it will deliver (mosquitto grants all and filters what it delivers).

        Raises:
            NotAuthorized: the broker says no.
            LinkDown: the connection was lost meanwhile; the filters are noted.
        """
        ...

    async def publish(self, message: Outgoing) -> None:
        """Publish; returns when the broker has acknowledged.

        There is no queue behind it: without a connection it raises at once, and who wants the message out
        repeats it (`wait_connected` first).

        Raises:
            LinkDown: no connection, or it was lost, or no acknowledgement came in time. It may have arrived.
            NotDelivered: the broker says that nobody listens.
            NotAuthorized: the broker says that we may not.
            TooLarge: the payload is too large.
        """
        ...

    async def announce(self, message: Outgoing) -> None:
        """Publish a retained message now and again after every reconnection (brokers may forget it).

        A later announcement on the same topic takes the place of the earlier one. Without a connection it is
        only noted.

        Raises:
            NotAuthorized, TooLarge: as in `publish`.
            ValueError: the message is not retained.
        """
        ...

    async def serve(self, handler: Handler, *, concurrency: int = 32) -> None:
        """Give every message to the handler, at most `concurrency` at once, until cancelled. Once per link.

        A message is acknowledged when its handler has returned and its answer has been written to the
        connection, in order of arrival. If the connection or the process dies before, a persistent presence
        gets the message again. What arrives before `serve` is called waits, unacknowledged.
        """
        ...
