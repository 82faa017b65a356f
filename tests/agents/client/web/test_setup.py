"""From an empty folder to a wallet."""

import re
from typing import Any

from agents.client.seed import entropy_of, root_of
from agents.client.service import unlock

from .browser import PASSPHRASE, Browser


async def test_without_a_wallet_every_way_leads_to_making_one(visitor: Browser) -> None:
    for path in ("/", "/unlock", "/pay?link=x", "/history", "/nothing"):
        assert (await visitor.get(path)).headers["location"] == "/begin", path
    assert (await visitor.post("/unlock", secret="x")).headers["location"] == "/begin"
    begin = await visitor.get("/begin")
    assert begin.status_code == 200
    assert "/restore" in visitor.page, "who has twelve words brings the wallet back"


async def test_a_passphrase_must_be_long_enough_and_typed_twice_alike(visitor: Browser) -> None:
    for passphrase, again, wrong in (
        ("short", "short", "at least 8"),
        ("x" * 1025, "x" * 1025, "at most 1024"),
        ("correct horse", "correct hearse", "not the same"),
    ):
        refused = await visitor.post("/begin", passphrase=passphrase, again=again)
        assert refused.status_code == 422
        assert wrong in visitor.page
    assert not visitor.vault.exists


async def test_the_words_are_shown_until_two_of_them_were_typed_and_never_again(visitor: Browser) -> None:
    made = await visitor.post("/begin", passphrase=PASSPHRASE, again=PASSPHRASE)
    assert made.headers["location"] == "/begin/words"
    for _ in range(2):
        await visitor.get("/begin/words")
        words = re.findall(r"<dd>([a-z]+)</dd>", visitor.page)
        assert len(words) == 12
    assert (await unlock(visitor.home, PASSPHRASE)).account(bytes(32)) == root_of(entropy_of(" ".join(words))).account(
        bytes(32)
    )
    asked = [int(number) for number in re.findall(r'name="word-([0-9]+)"', visitor.page)]
    assert len(set(asked)) == 2
    assert "written your twelve words" in (await visitor.get("/")).text
    right: dict[str, Any] = {f"word-{number}": words[number - 1] for number in asked}
    again = await visitor.post("/begin/words", **(right | {f"word-{asked[0]}": "wrong"}))
    assert again.headers["location"] == "/begin/words"
    assert f"Word {asked[0]} is another one" in (await visitor.get("/begin/words")).text
    done = await visitor.post("/begin/words", **{name: word.upper() for name, word in right.items()})
    assert done.headers["location"] == "/banks"
    assert visitor.vault.new_words == ""
    assert (await visitor.get("/begin/words")).headers["location"] == "/"
    home = await visitor.get("/")
    assert "shown once" in home.text
    assert not any(f"<dd>{word}</dd>" in home.text for word in words)


async def test_words_that_were_not_written_down_are_forgotten_when_the_wallet_is_locked(visitor: Browser) -> None:
    await visitor.post("/begin", passphrase=PASSPHRASE, again=PASSPHRASE)
    visitor.vault.lock()
    assert visitor.vault.new_words == ""
    locked = await visitor.get("/begin/words")
    assert locked.headers["location"] == "/", "the session is still open, but there are no words"


async def test_a_second_wallet_is_not_made_over_the_first(owner: Browser) -> None:
    before = (owner.home / "wallet.db").read_bytes()
    assert (await owner.get("/begin")).headers["location"] == "/"
    assert (await owner.post("/begin", passphrase="another one", again="another one")).headers["location"] == "/"
    assert (owner.home / "wallet.db").read_bytes() == before


async def test_a_folder_that_holds_something_else_is_not_made_a_wallet(visitor: Browser) -> None:
    visitor.home.mkdir()
    (visitor.home / "letter").touch()
    refused = await visitor.post("/begin", passphrase=PASSPHRASE, again=PASSPHRASE)
    assert refused.status_code == 422
    assert "is not empty" in visitor.page
