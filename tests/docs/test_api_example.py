"""The worked example of the API, a stranger's shop, run beside a real shop and bank: it is told of a payment."""

import base64
import functools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx
import pytest
from typer.testing import CliRunner

from agents.cli import app
from agents.demo.processes import PASSPHRASE, command, running
from agents.merchant.web import openapi
from broker.address import BrokerUrl
from tests.conftest import free_port

EXAMPLE: Final = Path(__file__).parents[2] / "docs" / "guide" / "api" / "shop.py"
LONGEST_S: Final = 120
get: Final = functools.partial(httpx.get, timeout=LONGEST_S)
post: Final = functools.partial(httpx.post, timeout=LONGEST_S)


class Parties(NamedTuple):
    """Where the e-cash shop is, the key of its API, and where the example is."""

    shop: str
    key: str
    example: str


def done(*arguments: object) -> str:
    """Carry out a command in this process, which is faster, and return what it printed."""
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.strip()


@pytest.fixture
def parties(tmp_path: Path, embedded_url: BrokerUrl, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parties]:
    monkeypatch.setenv("ECASH_PASSPHRASE", PASSPHRASE)
    for role in ("bank", "merchant", "wallet"):
        monkeypatch.setenv(f"ECASH_{role.upper()}_HOME", str(tmp_path / role))
    done("bank", "init", "--largest-denomination", 8, "--broker", embedded_url)
    address = done("bank", "address")
    alice = json.loads(done("bank", "open-account", "--json", "alice"))
    invitation = json.loads(done("bank", "open-account", "--json", "shop", "--kind", "merchant"))["invitation"]
    done("bank", "credit", alice["account"], "50.00", "--reference", "cash")
    done("merchant", "init", "shop", "--bank", address)
    shop, own = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    keys = json.loads(done("merchant", "web", "--webhook", f"{own}/webhook", "--json"))
    done("wallet", "init")
    options = ("--invitation", invitation, "--web", shop.removeprefix("http://"))
    with (
        running("bank", tmp_path / "bank", "is open"),
        running("merchant", tmp_path / "merchant", "the shop's pages", *options),
        example(own, ECASH_SHOP=shop, ECASH_API_KEY=keys["api_key"], ECASH_WEBHOOK_SECRET=keys["webhook_secret"]),
    ):
        done("wallet", "register", address, "--invitation", alice["invitation"])
        done("wallet", "withdraw", "20.00")
        yield Parties(shop, keys["api_key"], own)


@contextmanager
def example(own: str, **environment: str) -> Iterator[None]:
    """Run the example until the context ends."""
    started = [sys.executable, "-I", str(EXAMPLE), own.rpartition(":")[2]]
    process = subprocess.Popen(started, env=os.environ | environment)
    try:
        until(lambda: is_there(own))
        yield
    finally:
        process.terminate()
        process.wait(LONGEST_S)


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    give_up_at = time.monotonic() + LONGEST_S
    while not holds():
        assert time.monotonic() < give_up_at, "it never came"
        time.sleep(0.05)


def is_there(site: str) -> bool:
    try:
        return get(site).status_code == 200
    except httpx.TransportError:
        return False


def test_a_strangers_shop_is_paid_and_told_of_it(parties: Parties) -> None:
    assert "Buy for 12.34 USD" in get(parties.example).text
    bought = post(f"{parties.example}/buy")
    page = bought.headers["location"]
    assert (bought.status_code, page.rpartition("/")[0]) == (
        303,
        parties.shop.replace("127.0.0.1", "shop.localhost") + "/orders",
    )

    order = get(
        f"{parties.shop}/api/orders/{page.rpartition('/')[2]}", headers={"Authorization": f"Bearer {parties.key}"}
    ).json()
    cart = f"{parties.example}/carts/{order['reference']}"
    assert "not paid yet" in get(cart).text

    forged = json.dumps({"type": "order.paid", "data": {"reference": order["reference"]}})
    now = str(int(time.time()))
    for signature in ("", "v1,", "v1," + base64.b64encode(bytes(32)).decode()):
        headers = {"webhook-id": "msg_1", "webhook-timestamp": now, "webhook-signature": signature}
        assert post(f"{parties.example}/webhook", content=forged, headers=headers).status_code == 403
    assert "not paid yet" in get(cart).text

    paid = command("client", "pay", order["link"], "--yes")
    assert "12.34 USD" in paid.stdout
    until(lambda: "is paid" in get(cart).text)
    headers = {"Host": page.split("/")[2]}
    assert get(f"{parties.shop}/orders/{order['id']}", headers=headers).status_code == 200


def test_the_example_is_short_and_needs_nothing() -> None:
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) <= 120
    imported = {
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))
    }
    assert imported <= sys.stdlib_module_names


def test_the_guide_names_the_operations_that_there_are() -> None:
    text = EXAMPLE.with_name("README.md").read_text()
    named = set(re.findall(r"/api/[a-z.]+(?:/\$id)?(?:/[a-z]+)?", text))
    assert {path.replace("$id", "{id}") for path in named} == set(openapi.document("")["paths"])
