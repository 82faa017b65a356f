"""The banks that a wallet knows, and taking an account over from another device."""

from agents.invitation import hash_invitation, write_invitation
from tests.agents.world import Town
from tests.simulation.entropy import SeededEntropy

from .browser import ORIGIN, Browser


async def invited(town: Town, name: str, amount: int) -> str:
    secret = SeededEntropy(f"invitation of {name}").bytes(16)
    account = await town.books.open_account("client", name, "<b>Alice</b>", "USD", b"", hash_invitation(secret))
    await town.books.credit(account.number, amount, "cash")
    return write_invitation(secret)


async def test_an_invitation_opens_the_account(town: Town, owner: Browser) -> None:
    assert "knows no bank yet" in (await owner.get("/banks")).text
    invitation = await invited(town, "alice", 100)
    answer = await owner.post("/banks", address=f" {town.address} ", invitation=invitation.upper())
    assert answer.headers["location"] == "/banks"
    page = (await owner.get("/banks")).text
    assert "1.00 USD" in page
    assert "&lt;b&gt;Alice" in page
    assert "<b>Alice" not in page
    assert str(town.address) in page
    assert "never shown again" in page, "of the twelve words"


async def test_the_account_is_looked_at(town: Town, alice: Browser) -> None:
    assert "In the account" not in (await alice.get("/banks")).text
    answer = await alice.post("/banks/look", bank="north")
    assert answer.headers["location"] == "/banks"
    page = (await alice.get("/banks")).text
    assert "In the account" in page
    alice.vault.lock()
    await alice.unlock()
    assert "In the account" not in (await alice.get("/banks")).text
    assert (await alice.post("/banks/look", bank="south")).status_code == 404


async def test_what_is_wrong_with_the_form_is_said(town: Town, owner: Browser) -> None:
    await owner.get("/banks")
    forms = {
        "is no bank’s address".replace("’", "&#39;"): {"address": "http://evil.example"},
        "that is no invitation".capitalize(): {"address": str(town.address), "invitation": "<x>"},
    }
    for told, form in forms.items():
        answer = await owner.post("/banks", None, **form)
        assert answer.status_code == 422
        assert told in answer.text
        assert "<x>" not in answer.text


async def test_who_has_no_account_is_told(town: Town, owner: Browser) -> None:
    await owner.get("/banks")
    answer = await owner.post("/banks", {"Referer": f"{ORIGIN}/banks"}, address=str(town.address))
    assert answer.headers["location"] == "/banks"
    assert "refused" in (await owner.get("/banks")).text


async def test_an_account_is_taken_from_another_device_only_when_its_owner_says_so(town: Town, alice: Browser) -> None:
    async with alice.vault.store() as store:
        [bank] = await store.banks()
        await store.set_meta("device", bytes(16))
        await store.save_bank(bank._replace(generation=0))  # as in a wallet made of the same words elsewhere
    await alice.get("/banks")
    asked = await alice.post("/banks/look", bank="north")
    path = asked.headers["location"]
    assert path.startswith("/banks/take-over?address=")
    page = (await alice.get(path)).text
    assert "Another device uses your account" in page
    async with alice.vault.store() as store:
        assert [row.generation for row in await store.banks()] == [0]
    answer = await alice.post("/banks/take-over", address=str(town.address))
    assert answer.headers["location"] == "/banks"
    assert "1.00 USD" in (await alice.get("/banks")).text
    async with alice.vault.store() as store:
        assert [row.generation for row in await store.banks()] == [2]


async def test_a_made_up_link_to_a_take_over_does_nothing(alice: Browser) -> None:
    assert (await alice.get("/banks/take-over?address=<script>")).status_code == 404
    assert (await alice.post("/banks/take-over", address="x")).status_code == 400
