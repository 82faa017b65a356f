from pathlib import Path

import msgspec
import pytest

from agents.home import HomeError, load_settings, locked, make, save_settings, write_secret


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    days: int = 1
    words: list[str] = []


def test_a_home_is_its_owners_alone_and_made_once(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    make(home)
    assert home.stat().st_mode & 0o777 == 0o700
    make(home)
    write_secret(home / "keys/identity", b"secret")
    assert (home / "keys/identity").stat().st_mode & 0o777 == 0o600
    with pytest.raises(HomeError, match="not empty"):
        make(home)


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    settings = Settings('a "quoted" \\ näme', 7, ["x", "y\n"])
    save_settings(tmp_path, "bank", settings)
    assert load_settings(tmp_path, "bank", Settings) == settings
    assert (tmp_path / "bank.toml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["name = 1", "name = 'x'\nunknown = 1", "no toml at all", "days = 1"])
def test_a_line_that_is_wrong_is_told_with_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "bank.toml").write_text(text)
    with pytest.raises(HomeError, match=r"bank\.toml"):
        load_settings(tmp_path, "bank", Settings)


def test_without_settings_it_is_no_home(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="ecash bank init"):
        load_settings(tmp_path, "bank", Settings)


def test_one_at_a_time_holds_a_home(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(HomeError, match="in use"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
