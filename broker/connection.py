"""One MQTT 5 connection, from CONNECT to its loss: aiomqtt with what the agents need beyond it.

aiomqtt acknowledges a message before anybody has looked at it, hides the broker's reason codes, and leaves
Nagle's algorithm on. A connection is used once; `broker.mqtt` makes a new one after every loss, since a client
that is entered again still holds messages and packet ids of the connection before.
"""

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from .address import WEBSOCKET_PATH, BrokerUrl
from .port import MAX_PAYLOAD, Incoming, LinkDown, LinkError, NotAuthorized, NotDelivered, Outgoing, TooLarge
from .tls import client_context, no_connection

WINDOW: Final = 64
"""Receive Maximum: how many unacknowledged messages the broker may have under way to us."""

SESSION_S: Final = 7 * 86_400
"""How long a broker keeps the session of a persistent presence that is away, in seconds."""

TIMEOUT_S: Final = 10.0
FAREWELL_S: Final = 1.0
KEEPALIVE_S: Final = 30

_ANNOUNCEMENT: Final = "ecash/v1/<owner>/<what>"
_NO_SUBSCRIBER: Final = 0x10
_FORBIDDEN: Final = frozenset({0x86, 0x87, 0x8A, 0x8C, 0x90})
_NONSENSE: Final = (IndexError, ValueError)
"""What paho raises when a websocket's answer, or a host's name, is none."""
_NODELAY: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Ticket:
    """A message that has arrived on `connection` and waits for its acknowledgement."""

    incoming: Incoming
    connection: "Connection"
    packet_id: int
    done: bool = False


class Connection(aiomqtt.Client):
    """One connection to a broker; `open` it, and `close` it in any case.

    Args:
        url: the broker.
        client_id: ours.
        persistent: the broker keeps our session while we are away; else it forgets us at once.
        will: what the broker publishes when it loses us.
        arrived: called with every message, in order of arrival.
    """

    def __init__(
        self,
        url: BrokerUrl,
        client_id: str,
        *,
        persistent: bool,
        will: Outgoing | None,
        arrived: Callable[[Ticket], None],
    ) -> None:
        connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        connect.ReceiveMaximum = WINDOW
        connect.SessionExpiryInterval = SESSION_S if persistent else 0
        super().__init__(
            url.host,
            url.port,
            username=url.user,
            password=url.password,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=will.retain) if will else None,
            timeout=TIMEOUT_S,
            keepalive=KEEPALIVE_S,
            clean_start=not persistent,
            max_inflight_messages=0xFFFF,  # an answer that paho held back would leave after the acknowledgement
            properties=connect,
            transport="websockets" if url.websocket else "tcp",
            websocket_path=WEBSOCKET_PATH if url.websocket else None,
            tls_context=client_context(url) if url.tls else None,
            socket_options=[_NODELAY],
            logger=log,
        )
        self._client.manual_ack_set(on=True)
        self._url = url
        self._arrived = arrived
        self._order: deque[Ticket] = deque()
        self._unconfirmed: dict[int, asyncio.Future[None]] = {}
        self._lost = asyncio.Event()
        for outcome in (self._connected, self._disconnected):
            outcome.add_done_callback(_note)  # how it ends is told by what we raise; asyncio need not complain

    @property
    def alive(self) -> bool:
        """False once the connection is lost or closed."""
        return not self._lost.is_set()

    async def open(self) -> None:
        """Connect and wait for the broker's consent.

        Raises:
            NotAuthorized: the broker refuses the log-in.
            NotTrusted: the broker does not prove who it is.
            LinkDown: no broker there, or it closed the connection, or did not answer in time.
        """
        opening = asyncio.ensure_future(self.__aenter__())
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread that connects cannot be stopped, and its socket must not outlive us: wait for it, but not
            # for the broker's consent.
            if not self._connected.done():
                self._connected.set_exception(aiomqtt.MqttError("given up"))
            with contextlib.suppress(aiomqtt.MqttError, *_NONSENSE):
                await opening
                await self.close()
            self._drop()
            raise
        except aiomqtt.MqttError as error:
            self._drop()
            raise _refused(self._url, error) from error
        except _NONSENSE as error:
            self._drop()
            raise LinkDown(f"no connection: {error}") from error
        self._disconnected.add_done_callback(self._on_lost)
        if not self._client.is_connected():
            self._drop()
            raise LinkDown("the broker closed the connection at once")

    async def close(self) -> None:
        """Disconnect; the broker will not publish the will. Safe to call at any time."""
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self.__aexit__(None, None, None)
        except (aiomqtt.MqttError, TimeoutError) as error:
            log.debug("not disconnected in order: %s", error)
        finally:
            self._drop()

    def abandon(self) -> None:
        """Hang up; the broker publishes the will."""
        self._drop()

    async def wait_lost(self) -> None:
        """Return when the connection is lost."""
        await self._lost.wait()

    async def grant(self, filters: tuple[str, ...]) -> None:
        """Subscribe with QoS 1; raises as `Link.subscribe`."""
        try:
            codes = await self.subscribe([(name, _options(name)) for name in filters])
        except aiomqtt.MqttError as error:
            raise LinkDown(f"no subscription: {error}") from error
        if len(codes) != len(filters):
            raise LinkDown(f"no subscription: {len(codes)} answers to {len(filters)} filters")
        for name, code in zip(filters, codes, strict=True):
            if isinstance(code, ReasonCode) and code.is_failure:
                raise NotAuthorized(f"the broker refuses the subscription to {name}: {code}")

    def start(self, message: Outgoing) -> asyncio.Future[None]:
        """Write a message to the connection; `finish` waits for its acknowledgement.

        Raises:
            TooLarge: as in `Link.publish`.
            ValueError: the topic is none.
        """
        check_size(message)
        confirmed: asyncio.Future[None] = self._loop.create_future()
        info = self._client.publish(
            message.topic, message.payload, qos=1, retain=message.retain, properties=_properties(message)
        )
        if info.rc != paho.MQTT_ERR_SUCCESS or not self.alive:
            confirmed.set_exception(LinkDown("the connection is lost"))
            return confirmed
        self._unconfirmed[info.mid] = confirmed
        confirmed.add_done_callback(lambda _: self._unconfirmed.pop(info.mid, None))
        return confirmed

    async def finish(self, message: Outgoing, confirmed: asyncio.Future[None]) -> None:
        """Wait for the acknowledgement of a started message; raises as `Link.publish`."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await confirmed
        except TimeoutError as error:
            raise LinkDown("the broker does not acknowledge") from error
        except NotDelivered:
            if not message.retain:  # the broker keeps it for those to come
                raise

    def acknowledge(self, ticket: Ticket) -> None:
        """Mark a message as done; it is acknowledged as soon as all that arrived before it are (MQTT-4.6.0-2)."""
        ticket.done = True
        while self._order and self._order[0].done:
            packet_id = self._order.popleft().packet_id
            if self.alive:
                self._client.ack(packet_id, 1)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        self._hurry()
        if message.qos != 1:
            return  # none of ours, and the window does not bound how many there are
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        correlation: bytes | None = getattr(message.properties, "CorrelationData", None)
        incoming = Incoming(topic, bytes(message.payload), message.retain, correlation)
        ticket = Ticket(incoming, self, message.mid)
        self._order.append(ticket)
        self._arrived(ticket)

    def _on_publish(
        self, client: paho.Client, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        self._hurry()
        confirmed = self._unconfirmed.pop(mid, None)
        if confirmed is None or confirmed.done():
            return
        error = _refusal_to_publish(reason_code)
        if error:
            confirmed.set_exception(error)
        else:
            confirmed.set_result(None)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if not self._connected.done():  # aiomqtt would wait for its timeout
            self._connected.set_exception(aiomqtt.MqttCodeError(reason_code, "closed"))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_lost(self, disconnected: asyncio.Future[None]) -> None:
        if not disconnected.cancelled():
            disconnected.exception()  # taken note of
        self._lost.set()
        self._order.clear()
        for confirmed in tuple(self._unconfirmed.values()):
            if not confirmed.done():
                confirmed.set_exception(LinkDown("the connection was lost before the acknowledgement"))

    def _drop(self) -> None:
        self._lost.set()
        for outcome in (self._connected, self._disconnected):
            if outcome.done():  # the loop may end before it calls back
                _note(outcome)
        if self._client.socket() is not None:
            self._client._sock_close()

    def _hurry(self) -> None:
        # Some brokers (rumqttd) hold their next segment back until the last one is acknowledged, and Linux would
        # wait 40 ms for company. The option does not stick: it is set again after every read.
        sock = self._client.socket()
        if _QUICKACK is not None and isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


def check_size(message: Outgoing) -> None:
    """Raise `TooLarge` if the payload is more than `MAX_PAYLOAD` bytes."""
    if len(message.payload) > MAX_PAYLOAD:
        raise TooLarge(f"{len(message.payload)} bytes; the most is {MAX_PAYLOAD}")


def _options(name: str) -> SubscribeOptions:
    # Announcements have four levels. What has more is for one receiver and never retained by an honest sender, so
    # brokers are asked not to send what a poisoner has had them keep.
    one_receiver = name.count("/") > _ANNOUNCEMENT.count("/")
    never, at_once = SubscribeOptions.RETAIN_DO_NOT_SEND, SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
    return SubscribeOptions(qos=1, retainHandling=never if one_receiver else at_once)


def _properties(message: Outgoing) -> Properties | None:
    if message.correlation is None and message.expiry_s is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if message.correlation is not None:
        properties.CorrelationData = message.correlation
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = message.expiry_s
    return properties


def _refused(url: BrokerUrl, error: aiomqtt.MqttError) -> LinkError:
    code = error.rc if isinstance(error, aiomqtt.MqttCodeError) else None
    if isinstance(code, ReasonCode) and code.value in _FORBIDDEN:
        return NotAuthorized(f"the broker refuses the log-in: {code}")
    return no_connection(url, error, error.__context__)


def _refusal_to_publish(code: ReasonCode) -> LinkError | None:
    if code.value < 0x80:
        return NotDelivered("nobody listens") if code.value == _NO_SUBSCRIBER else None
    if code.value in _FORBIDDEN:
        return NotAuthorized(f"the broker refuses the publication: {code}")
    return LinkDown(f"the broker did not take the message: {code}")


def _note(outcome: asyncio.Future[None]) -> None:
    if not outcome.cancelled():
        outcome.exception()
