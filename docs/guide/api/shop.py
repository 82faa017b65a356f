"""A shop that is paid in e-cash and knows nothing of e-cash: one article, and the standard library alone.

    ECASH_SHOP=http://127.0.0.1:8080 ECASH_API_KEY=sk_… ECASH_WEBHOOK_SECRET=whsec_… python shop.py 8000

It tells the e-cash shop (`ecash merchant run --web :8080`) what is to be paid, sends the buyer to the order's page
there, and hears by a webhook that it is paid. Any language does: it takes an HTTP client, an HTTP server, and HMAC.
"""

import base64
import hmac
import html
import json
import os
import sys
import time
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHOP = os.environ["ECASH_SHOP"]
API_KEY = os.environ["ECASH_API_KEY"]
WEBHOOK_SECRET = base64.b64decode(os.environ["ECASH_WEBHOOK_SECRET"].removeprefix("whsec_"))
PORT = int(sys.argv[1])
HERE = f"http://127.0.0.1:{PORT}"
MAX_BODY = 65_536
MAX_AGE_S = 300

carts: dict[str, str] = {}
"""The state of each cart by its number; a real shop has a database here."""


def create_order(cart: str) -> str:
    """Create the order for a cart, and return the page where it is paid."""
    order = {
        "lines": [{"text": "Bluesky, a song to download", "price": 1234}],
        "currency": "USD",
        "reference": cart,
        "return_url": f"{HERE}/carts/{cart}",
    }
    request = urllib.request.Request(  # noqa: S310 - the address is the shopkeeper's own
        f"{SHOP}/api/orders",
        json.dumps(order).encode(),
        {
            "Authorization": f"Bearer {API_KEY}",
            "Content-Type": "application/json",
            "Idempotency-Key": cart,  # so that this may be repeated when the answer was lost
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        page: str = json.load(answer)["page"]
    return page


def is_genuine(headers: dict[str, str], body: bytes) -> bool:
    """Tell whether the e-cash shop has signed this webhook just now (Standard Webhooks)."""
    sent_at = headers.get("webhook-timestamp", "")
    if not sent_at.isascii() or not sent_at.isdigit() or abs(time.time() - int(sent_at)) > MAX_AGE_S:
        return False
    signed = f"{headers.get('webhook-id', '')}.{sent_at}.".encode() + body
    right = b"v1," + base64.b64encode(hmac.digest(WEBHOOK_SECRET, signed, "sha256"))
    signatures = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(right, one) for one in signatures)


class Handler(BaseHTTPRequestHandler):
    """The shop's pages, and the address that webhooks come to."""

    def do_GET(self) -> None:
        """Show the article, or a cart."""
        cart = self.path.removeprefix("/carts/")
        if cart in carts:
            self.answer(200, f"<h1>Your order is {html.escape(carts[cart])}</h1>")
        elif self.path == "/":
            self.answer(200, "<h1>Bluesky</h1><form method=post action=/buy><button>Buy for 12.34 USD</button></form>")
        else:
            self.answer(404, "<h1>There is no such page</h1>")

    def do_POST(self) -> None:
        """Begin a cart and send the buyer to pay, or take in a webhook."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.answer(413, "")
            return
        body = self.rfile.read(int(length))
        if self.path == "/buy":
            cart = uuid.uuid4().hex
            carts[cart] = "not paid yet"
            try:
                self.answer(303, "", Location=create_order(cart))
            except OSError:  # it is not there, or has refused
                self.answer(502, "<h1>Paying is not possible now: nothing was ordered</h1>")
        elif self.path == "/webhook" and is_genuine({name.lower(): text for name, text in self.headers.items()}, body):
            event = json.loads(body)
            if event["type"] == "order.paid" and event["data"]["reference"] in carts:
                carts[event["data"]["reference"]] = "paid"  # a webhook that comes twice changes nothing more
            self.answer(204, "")
        else:
            self.answer(403, "")

    def answer(self, status: int, page: str, **headers: str) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in {"Content-Type": "text/html; charset=utf-8", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(page.encode())


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
