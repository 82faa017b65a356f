"""Who gets to the wallet's pages, and who does not."""

from urllib.parse import quote

import pytest

from agents.web.sessions import IDLE_MS
from tests.simulation.clock import VirtualClock

from .browser import ORIGIN, PASSPHRASE, Browser

FOREIGN = "https://evil.example"


class TestTheGate:
    async def test_who_is_not_in_is_asked_for_the_passphrase_and_then_comes_to_where_he_wanted(
        self, owner: Browser
    ) -> None:
        other = owner.another()
        sent = await other.get("/pay?link=web%2Becash%3Apay%2Fabc")
        assert sent.status_code == 303
        asks = sent.headers["location"]
        assert asks == f"/unlock?next={quote('/pay?link=web%2Becash%3Apay%2Fabc', safe='')}"
        page = await other.get(asks)
        assert "your own wallet, on this machine" in page.text
        form = {"secret": PASSPHRASE, "next": "/pay?link=web%2Becash%3Apay%2Fabc"}
        entered = await other.post("/unlock", data=form, headers={"Origin": ORIGIN})
        assert entered.headers["location"] == form["next"]
        assert (await other.get("/")).status_code == 200

    async def test_a_wrong_passphrase_opens_nothing(self, owner: Browser) -> None:
        owner.vault.lock()
        other = owner.another()
        refused = await other.post("/unlock", data={"secret": "wrong"}, headers={"Origin": ORIGIN})
        assert refused.status_code == 403
        assert "not this wallet’s passphrase" in refused.text
        assert not owner.vault.unlocked
        assert not other.cookies

    @pytest.mark.parametrize("elsewhere", ["//evil.example/", FOREIGN, "/\\evil.example", "javascript:alert(1)"])
    async def test_it_leads_to_no_other_site(self, owner: Browser, elsewhere: str) -> None:
        other = owner.another()
        form = {"secret": PASSPHRASE, "next": elsewhere}
        entered = await other.post("/unlock", data=form, headers={"Origin": ORIGIN})
        assert entered.headers["location"] == "/"
        assert (await owner.get(f"/unlock?next={quote(elsewhere)}")).headers["location"] == "/"

    async def test_the_owner_locks_it_everywhere_at_once(self, owner: Browser) -> None:
        other = owner.another()
        await other.post("/unlock", data={"secret": PASSPHRASE}, headers={"Origin": ORIGIN})
        locked = await owner.post("/lock")
        assert locked.headers["location"] == "/unlock"
        assert not owner.vault.unlocked
        for browser in (owner.client, other):
            assert (await browser.get("/history")).headers["location"].startswith("/unlock")

    async def test_a_session_whose_vault_was_locked_is_asked_again(self, owner: Browser) -> None:
        owner.vault.lock()
        sent = await owner.get("/withdraw")
        assert sent.status_code == 303, "looking takes no secrets, but this wallet has no bank yet"
        sent = await owner.post("/withdraw", amount="5.00 USD", bank="north", once="1")
        assert sent.headers["location"] == "/unlock?next=%2F"
        assert (await owner.get("/")).headers["location"].startswith("/unlock"), "the session is over"

    async def test_a_session_ends_when_nothing_is_asked_for(self, owner: Browser, clock: VirtualClock) -> None:
        clock.advance(IDLE_MS - 1)
        assert (await owner.get("/")).status_code == 200
        clock.advance(IDLE_MS)
        assert (await owner.get("/")).headers["location"].startswith("/unlock")


class TestTheGuard:
    @pytest.mark.parametrize(
        "origin", [FOREIGN, "null", "http://127.0.0.1:8080", "http://wallet.localhost:8090.evil.example"]
    )
    async def test_a_page_of_another_site_sends_no_form(self, owner: Browser, origin: str) -> None:
        for path in ("/pay", "/withdraw", "/put-back", "/lock", "/unlock", "/begin/words"):
            assert (await owner.post(path, headers={"Origin": origin})).status_code == 403, path
        assert owner.vault.unlocked

    async def test_a_form_of_nowhere_is_refused(self, owner: Browser) -> None:
        refused = await owner.client.post("/lock", data={"csrf": owner.csrf})
        assert refused.status_code == 403
        assert owner.vault.unlocked

    @pytest.mark.parametrize("host", ["evil.example:8090", "evil.example", "127.0.0.1", "wallet.localhost"])
    async def test_it_answers_under_its_own_names_only(self, owner: Browser, host: str) -> None:
        assert (await owner.get("/", Host=host)).status_code == 421
        assert (await owner.get("/static/site.js", Host=host)).status_code == 421

    @pytest.mark.parametrize("host", ["wallet.localhost:8090", "localhost:8090", "[::1]:8090"])
    async def test_all_of_its_names_are_names_of_this_machine(self, owner: Browser, host: str) -> None:
        assert (await owner.get("/", Host=host)).status_code == 200

    @pytest.mark.parametrize("dest", ["image", "script", "iframe", "empty"])
    async def test_another_sites_page_shows_nothing_of_it(self, owner: Browser, dest: str) -> None:
        mode = "navigate" if dest == "iframe" else "no-cors"
        foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
        assert (await owner.get("/pay?link=x", **foreign)).status_code == 403

    async def test_another_sites_page_may_lead_to_it(self, owner: Browser) -> None:
        foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert (await owner.get("/pay", **foreign)).status_code == 200

    async def test_a_form_without_the_sessions_token_does_nothing(self, owner: Browser) -> None:
        for csrf in ("", "0" * 64):
            assert (await owner.post("/lock", csrf=csrf)).status_code == 403
        assert owner.vault.unlocked

    async def test_pages_are_kept_nowhere_and_load_nothing_from_elsewhere(self, owner: Browser) -> None:
        for path in ("/", "/pay", "/nothing", "/begin/words"):
            headers = (await owner.get(path)).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"

    async def test_its_cookie_is_for_no_script(self, owner: Browser) -> None:
        other = owner.another()
        entered = await other.post("/unlock", data={"secret": PASSPHRASE}, headers={"Origin": ORIGIN})
        cookie = entered.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie


async def test_an_unknown_page_is_told(owner: Browser) -> None:
    missing = await owner.get("/nothing")
    assert missing.status_code == 404
    assert "There is no such page" in missing.text
