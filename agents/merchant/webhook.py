"""Delivery of webhooks: each notice of the outbox to the shop's own system, until it has it.

Form and signature are those of the Standard Webhooks specification, version 1.0.0
(github.com/standard-webhooks/standard-webhooks): the receiver checks the signature, refuses an old timestamp, and
knows by `webhook-id` what it has had before.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import sqlite3
from typing import Final

import httpx

from ..trace import point
from ..world import Clock, Entropy
from .outbox import Notice, Outbox

_log = logging.getLogger("ecash.merchant")
_SECOND_MS: Final = 1000
_MINUTE_MS: Final = 60 * _SECOND_MS
_HOUR_MS: Final = 60 * _MINUTE_MS
BACKOFF_MS: Final = (
    5 * _SECOND_MS,
    30 * _SECOND_MS,
    2 * _MINUTE_MS,
    10 * _MINUTE_MS,
    _HOUR_MS,
    3 * _HOUR_MS,
    12 * _HOUR_MS,
    24 * _HOUR_MS,
)
"""How long to wait after each attempt that failed, and up to a fifth more; after the one that follows, it is over."""
PATIENCE_S: Final = 10.0
"""How long one attempt may take in all."""
_LONGEST_ERROR: Final = 200
_OK: Final = range(200, 300)


def headers(secret: bytes, message_id: str, seconds: int, body: bytes) -> dict[str, str]:
    """Return the headers of a webhook.

    Args:
        secret: 32 bytes that the receiver has too.
        message_id: the same in every attempt.
        seconds: the time of this attempt, since 1970.
        body: what is sent.
    """
    signed = f"{message_id}.{seconds}.".encode() + body
    signature = base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
    return {
        "content-type": "application/json",
        "user-agent": "ecash-merchant",
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": f"v1,{signature}",
    }


class Courier:
    """Delivers what is in the outbox, one notice at a time, those of one order in their order.

    Args:
        outbox: the merchant's.
        url: where the shop's system wants to be told.
        secret: 32 bytes, see `headers`.
        client: makes the requests.
        clock, entropy: the world.
    """

    def __init__(
        self, outbox: Outbox, url: str, secret: bytes, client: httpx.AsyncClient, clock: Clock, entropy: Entropy
    ) -> None:
        self._outbox = outbox
        self._url = url
        self._secret = secret
        self._client = client
        self._clock = clock
        self._entropy = entropy

    async def run(self) -> None:
        """Deliver until cancelled; what is not delivered then is sent after the next start."""
        while True:
            self._outbox.bell.clear()
            try:
                wake_at = await self._deliver_due()
            except (sqlite3.Error, OSError):  # a full disk, a lock
                _log.exception("the outbox: again in a minute")
                wake_at = self._clock.now() + _MINUTE_MS
            await self._sleep(wake_at)

    async def _deliver_due(self) -> int:
        """Send all that is due, and return when there is something to send next."""
        while (notice := await self._outbox.next()) is not None:
            if notice.next_at > self._clock.now():
                return notice.next_at
            await self._attempt(notice)
        return self._clock.now() + 24 * _HOUR_MS

    async def _attempt(self, notice: Notice) -> None:
        point("merchant.notice.sending")
        error = await self._post(notice)
        now, attempts = self._clock.now(), notice.attempts + 1
        if not error:
            after = notice._replace(next_at=0, attempts=attempts, delivered_at=now, error="")
        else:
            given_up = attempts > len(BACKOFF_MS)
            next_at = 0 if given_up else now + self._pause(attempts)
            after = notice._replace(next_at=next_at, attempts=attempts, error=error[:_LONGEST_ERROR])
            _log.warning("webhook %s, attempt %d%s: %s", notice.id, attempts, ", the last" if given_up else "", error)
        await self._outbox.record(after)
        point("merchant.notice.recorded")

    def _pause(self, attempts: int) -> int:
        pause = BACKOFF_MS[attempts - 1]
        return pause + pause * self._entropy.jitter() // 5000

    async def _post(self, notice: Notice) -> str:
        """Send a notice and return what went wrong, if anything; of the answer only the status is read."""
        sent = headers(self._secret, notice.id, self._clock.now() // _SECOND_MS, notice.body)
        try:
            async with (
                asyncio.timeout(PATIENCE_S),
                self._client.stream(
                    "POST", self._url, content=notice.body, headers=sent, follow_redirects=False, timeout=PATIENCE_S
                ) as answer,
            ):
                return "" if answer.status_code in _OK else f"answered {answer.status_code}"
        except (TimeoutError, httpx.TimeoutException):
            return f"no answer within {PATIENCE_S:g} seconds"
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return f"{type(error).__name__}: {error}"

    async def _sleep(self, wake_at: int) -> None:
        """Sleep until then, or until something new is in the outbox."""
        bell = asyncio.create_task(self._outbox.bell.wait())
        timer = asyncio.create_task(self._clock.sleep_until(wake_at))
        try:
            await asyncio.wait({bell, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            bell.cancel()
            timer.cancel()
