"""The shop's web pages and the API of its own system as targets, called as a server of HTTP would."""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from starlette.types import ASGIApp

from agents.client.wallet import Wallet
from agents.merchant.home import web_keys
from agents.merchant.web import bodies
from agents.merchant.web.api import _decoded
from agents.merchant.web.catalog import QUANTITY
from agents.merchant.web.problems import ApiError
from tests.agents.merchant.web.storefront import ORIGIN, PORT, storefront
from tests.agents.merchant.web_shop import choose, pay_by_link
from tests.agents.world import Town
from tests.simulation.entropy import SeededEntropy

from .forms import JSON, TEXT
from .target import REFUSED, TAKEN, Run, Target, checked

_ORDERS: Final = "/api/orders"
_SONG: Final = (
    b'{"lines": [{"text": "A song", "price": 13, "quantity": 2, "goods": "la", "file": ""}], "currency": "USD"}'
)
_FILLED: Final = (
    b'{"lines": [{"sku": "novel", "quantity": 1}], "bank": "north", "currency": "USD", '
    b'"reference": "cart-4711", "return_url": "https://shop.example/thanks"}'
)
_LONGEST_HEADER: Final = 16_000
_MOST_HEADERS: Final = 100
"""As h11, under uvicorn, takes them at most."""


class Server:
    """Calls the shop's pages and its API."""

    def __init__(self, town: Town) -> None:
        self._app: ASGIApp = storefront(town).guarded
        self._key = web_keys(town.folder / "shop", SeededEntropy("not needed")).api

    async def status(self, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
        """Return the status of the answer."""
        path, _, query = target.partition("?")
        started: list[int] = []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", PORT),
        }

        coming = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            return next(coming, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                started.append(message["status"])

        await self._app(scope, receive, send)
        (status,) = started
        assert status < 500
        return status

    def posting(self, path: str) -> Run:
        """Return a run of bytes as the JSON body of a request with the key."""
        key = f"Bearer {self._key}".encode()
        headers = [
            (b"host", f"127.0.0.1:{PORT}".encode()),
            (b"authorization", key),
            (b"content-type", b"application/json"),
        ]

        async def run(data: bytes) -> str:
            return _outcome(await self.status("POST", path, headers, data))

        return run

    def form(self, path: str) -> Run:
        """Return a run of bytes as what a form of the shop's own page sends."""
        kind = (b"content-type", b"application/x-www-form-urlencoded")
        headers = [(b"host", f"127.0.0.1:{PORT}".encode()), (b"origin", ORIGIN.encode()), kind]

        async def run(data: bytes) -> str:
            length = (b"content-length", str(len(data)).encode())
            return _outcome(await self.status("POST", path, [*headers, length], data))

        return run

    async def request(self, data: bytes) -> str:
        """Send bytes as the lines of a request, as far as a server of HTTP lets them through."""
        head, _, body = data.partition(b"\n\n")
        first, *lines = head[:_LONGEST_HEADER].split(b"\n")
        method, _, target = first.decode("latin-1").partition(" ")
        if not target.isascii() or not target.isprintable() or not (method.isascii() and method.isalpha()):
            return REFUSED
        headers = [(name.strip().lower(), value.strip()) for name, _, value in (one.partition(b":") for one in lines)]
        return _outcome(await self.status(method, target, headers[:_MOST_HEADERS], body))


def _outcome(status: int) -> str:
    return REFUSED if status >= 400 else TAKEN


async def web_targets(town: Town, wallet: Wallet) -> list[Target]:
    """The targets; the shop is open, and `wallet` buys there."""
    server = Server(town)
    sight = await choose(town.shop.orders)
    await pay_by_link(wallet, sight)
    order = sight.order.id
    asking = [
        f"GET {_ORDERS}?limit=5&before={order}\nhost: 127.0.0.1:{PORT}\nauthorization: Bearer {server._key}\n\n",
        f"POST {_ORDERS}\nhost: 127.0.0.1:{PORT}\nauthorization: Bearer {server._key}\nidempotency-key: a\n"
        'content-type: application/json; charset=utf-8\ncontent-length: 5\n\n{"lines": []}',
        f"GET /orders/{order}\nhost: 127.0.0.1:{PORT}\ncookie: shop=x; shop=y\nsec-fetch-site: none\n\n",
        f"POST /orders\nhost: 127.0.0.1:{PORT}\norigin: {ORIGIN}\ncontent-length: 12\n\nbank=north&q=1",
    ]
    return [
        *_bodies(),
        Target("api: new order", [_SONG, _FILLED], server.posting(_ORDERS), JSON),
        Target(
            "api: refund",
            [b'{"amount": 1, "granted": 0}', b'{"amount": 1}'],
            server.posting(f"{_ORDERS}/{order}/refunds"),
            JSON,
        ),
        Target("web: request", [one.encode() for one in asking], server.request, TEXT),
        Target(
            "web: order",
            [b"bank=north&buy=novel&%snovel=1&%scard=2" % (QUANTITY.encode(), QUANTITY.encode())],
            server.form("/orders"),
            TEXT,
        ),
        Target("web: log-in", [b"secret=abcd-efgh&next=/office"], server.form("/office/enter"), TEXT),
    ]


def _bodies() -> Iterator[Target]:
    """The bodies alone, faster."""
    samples: dict[type[msgspec.Struct], bytes] = {
        bodies.NewOrder: _SONG,
        bodies.NewCatalogueOrder: _FILLED,
        bodies.NewRefund: b'{"amount": 500, "granted": 0}',
    }
    for kind, sample in samples.items():
        yield Target(f"body: {kind.__name__}", [sample], checked(_decoder(kind), ApiError), JSON)


def _decoder(kind: type[msgspec.Struct]) -> Any:
    return lambda data: _decoded(data, kind)
