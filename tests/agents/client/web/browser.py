"""A browser at the wallet's site, with one wallet of the town behind it."""

import re
from pathlib import Path
from typing import Any, Final

import httpx
from starlette.applications import Starlette

from agents.client.web.site import wallet_site
from agents.client.web.vault import Vault
from agents.web.listen import Listen
from broker.address import BrokerUrl
from broker.port import Link
from tests.agents.world import Town

ORIGIN: Final = "http://127.0.0.1:8090"
LISTEN: Final = Listen("127.0.0.1", 8090)
PASSPHRASE: Final = "correct horse"
_CSRF: Final = re.compile(r'name="csrf" value="([0-9a-f]+)"')


class Browser:
    """Follows no redirects: a test says where it goes. `page` is the last text that it was shown."""

    def __init__(self, town: Town, home: Path) -> None:
        self.town = town
        self.home = home
        self.app: Starlette
        self.app, self.guarded = wallet_site(
            home,
            town.clock,
            town.entropy(f"pages of {home.name}"),
            LISTEN,
            town._client,
            attend=self._attend,
            hard=False,
        )
        self.vault: Vault = self.app.state.vault
        self.csrf = ""
        self.page = ""
        self.client = self.another()

    def _attend(self, broker: BrokerUrl, client_id: str, /, *, persistent: bool) -> Link:
        return self.town.connect(client_id, persistent=persistent)

    def another(self) -> httpx.AsyncClient:
        """Another browser, without cookies, at the same site."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=self.guarded), base_url=ORIGIN)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return self._seen(await self.client.get(path, headers=headers))

    async def post(self, path: str, headers: dict[str, str] | None = None, **form: Any) -> httpx.Response:
        """Send a form with the token of the last page that had one, unless it brings its own."""
        sent = {"Origin": ORIGIN} | (headers or {})
        return self._seen(await self.client.post(path, data={"csrf": self.csrf} | form, headers=sent))

    def _seen(self, response: httpx.Response) -> httpx.Response:
        self.page = response.text
        found = _CSRF.search(response.text)
        self.csrf = found[1] if found else self.csrf
        return response

    async def set_up(self) -> None:
        """Make a wallet and be in it."""
        made = await self.post("/begin", passphrase=PASSPHRASE, again=PASSPHRASE)
        assert made.headers["location"] == "/begin/words", made.text
        self.vault.new_words = ""
        await self.get("/")

    async def unlock(self) -> None:
        """Be in a wallet that was locked."""
        entered = await self.post("/unlock", secret=PASSPHRASE)
        assert entered.status_code == 303, entered.text
        await self.get("/")
