import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.cli import app
from agents.merchant import home as shop_home
from tests.agents.world import BROKER, SHOP
from tests.simulation.entropy import SeededEntropy

SECRETS = ("office_key", "api_key", "webhook_secret")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    address = "ecash://north@127.0.0.1:1883#" + "ab" * 32
    settings = shop_home.Settings(SHOP, [address], BROKER, "presence")
    shop_home.create(tmp_path / "shop", settings, SeededEntropy("shop"))
    return tmp_path / "shop"


def web(home: Path, *options: str) -> dict[str, str]:
    result = CliRunner().invoke(app, ["merchant", "web", "--home", str(home), "--json", *options])
    assert result.exit_code == 0, result.output
    told: dict[str, str] = json.loads(result.output)
    return told


def refused(home: Path, *options: str) -> str:
    before = (home / "merchant.toml").read_text()
    result = CliRunner().invoke(app, ["merchant", "web", "--home", str(home), *options])
    assert result.exit_code == 1
    assert (home / "merchant.toml").read_text() == before
    return result.output


def test_the_keys_stay_the_same_until_new_ones_are_asked_for(home: Path) -> None:
    first = web(home)
    assert web(home) == first
    new = web(home, "--new-keys")
    assert all(new[name] != first[name] for name in SECRETS)
    assert web(home) == new
    assert (home / "keys/web.toml").stat().st_mode & 0o077 == 0


def test_the_settings_are_kept_until_they_are_changed(home: Path) -> None:
    before = shop_home.settings_of(home)
    web(home, "--webhook", "https://shop.example/ecash", "--public-url", "https://pay.example")
    told = web(home)
    assert (told["webhook"], told["public_url"]) == ("https://shop.example/ecash", "https://pay.example")
    assert web(home, "--no-webhook")["webhook"] == ""
    after = shop_home.settings_of(home)
    assert (after.public_url, after.presence, after.banks) == ("https://pay.example", before.presence, before.banks)


@pytest.mark.parametrize(
    "webhook", ["http://shop.example/x", "http://10.0.0.1/", "ftp://localhost/", "file:///etc/passwd", "shop.example"]
)
def test_a_webhook_that_everybody_could_read_is_refused(home: Path, webhook: str) -> None:
    assert "webhook: it looks like https://" in refused(home, "--webhook", webhook)


def test_what_contradicts_itself_is_refused(home: Path) -> None:
    assert "--no-webhook" in refused(home, "--webhook", "https://shop.example/", "--no-webhook")
    assert "public_url" in refused(home, "--public-url", "javascript:alert(1)")


def test_a_person_is_told_what_to_do_next(home: Path) -> None:
    keys = web(home)
    shown = CliRunner().invoke(app, ["merchant", "web", "--home", str(home), "--webhook", "http://localhost:9/[x]"])
    assert all(keys[name] in shown.output for name in SECRETS)
    assert "http://localhost:9/[x]" in shown.output
    assert "stop it and start it again" in shown.output
