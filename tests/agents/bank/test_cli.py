"""`ecash bank init`, as far as other tests do not type it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.bank.cli import app
from agents.bank.home import settings_of, tariff_of
from protocol.commission import Commission

KINDS = ("withdrawal", "deposit", "exchange", "refund", "redemption", "payout")


def init(home: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["init", "--home", str(home), "--largest-denomination", "0", *words])
    return result.exit_code, result.stderr


def test_each_kind_of_exchange_has_a_commission_of_its_own(tmp_path: Path) -> None:
    words = [word for rate, kind in enumerate(KINDS) for word in (f"--{kind}-commission", f"0.{rate + 1}%")]
    assert init(tmp_path / "bank", *words) == (0, "")
    tariff = tariff_of(settings_of(tmp_path / "bank"))
    assert [getattr(tariff, kind) for kind in KINDS] == [Commission(0, 1000 * (n + 1), 0, 0) for n in range(len(KINDS))]


@pytest.mark.parametrize("kind", ["deposit", "exchange", "redemption"])
def test_what_is_taken_from_a_coin_leaves_something(kind: str, tmp_path: Path) -> None:
    code, complained = init(tmp_path / "bank", f"--{kind}-commission", "0.01")
    assert code == 1
    assert "smallest coin" in complained
    assert not (tmp_path / "bank").exists()
