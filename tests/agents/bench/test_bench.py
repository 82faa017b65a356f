import asyncio
import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.bank.audit import Report as Audit
from agents.bench import measure
from agents.bench.cli import app
from agents.bench.failure import BenchFailed
from agents.bench.load import closed_loop, percentile_ms
from agents.bench.yardstick import Rsa, Yardstick, measure_openssl, read_speed

FIELDS = {
    "coins_per_s": float,
    "requests_per_s": float,
    "p50_ms": float,
    "p99_ms": float,
    "openssl_private_per_s": float,
    "ratio_to_openssl": float,
    "cores": int,
    "store": str,
    "broker": str,
    "durable": bool,
}
QUICK = ["--broker", "embedded", "--seconds", "0.1", "--coins", "2", "--warm-up", "1"]
SPEED = "+H:1\nGot: +F2:2:2048:943.0:40285.0 from 0\n+F2:2:2048:2000.0:80000.5\n"


@pytest.fixture
def openssl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An openssl that answers at once; the path that it is on has nothing else."""
    program = tmp_path / "openssl"
    program.write_text(f"#!/bin/sh\nprintf '{SPEED.encode('unicode_escape').decode()}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return program


@pytest.mark.usefixtures("openssl")
@pytest.mark.parametrize("kind", ["withdraw", "deposit", "purchase"])
def test_json_begins_with_the_ten_figures_and_nothing_stays(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(app, [kind, *QUICK, "--in-flight", "2", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout.splitlines()[-1])
    assert {name: type(value) for name, value in list(report.items())[: len(FIELDS)]} == FIELDS
    assert report["broker"] == "embedded"
    assert report["requests"] >= 2
    assert 0 < report["p50_ms"] <= report["p99_ms"]
    assert report["coins_per_s"] == pytest.approx(2 * report["requests_per_s"], rel=1e-3)
    assert report["openssl_private_per_s"] == 2000
    assert report["ratio_to_openssl"] == pytest.approx(report["coins_per_s"] / 2000, rel=1e-2)
    assert report["faults"] == []
    assert (report["merchant_cpu_ms_per_request"] > 0) == (report["order_p50_ms"] > 0) == (kind == "purchase")
    assert not list(tmp_path.glob("ecash-bench-*"))


@pytest.mark.usefixtures("openssl")
def test_a_person_gets_a_table_and_an_audit_that_fails_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    async def audit_of(_: Path) -> Audit:
        return Audit({}, ["journal 1: missing"])

    monkeypatch.setattr(measure, "audit_of", audit_of)
    result = CliRunner().invoke(app, ["withdraw", *QUICK])
    assert result.exit_code == 1
    for text in ("latency p99", "openssl rsa2048 private", "journal 1: missing", "Method:"):
        assert text in result.stdout


def test_a_broker_that_there_is_not_is_refused() -> None:
    result = CliRunner().invoke(app, ["withdraw", "--broker", "carrier-pigeon"])
    assert result.exit_code == 1


def test_openssl_speaks_and_is_read() -> None:
    assert read_speed(SPEED) == Rsa(2000.0, 80000.5)
    with pytest.raises(BenchFailed, match="no figures"):
        read_speed("+F2:2:2048\n+F3:0:1:2\n")


async def test_the_yardstick_is_what_openssl_says(openssl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rsa = Rsa(2000.0, 80000.5)
    assert await measure_openssl() == Yardstick(rsa, rsa)
    monkeypatch.setenv("PATH", str(openssl.parent / "nowhere"))
    with pytest.raises(BenchFailed, match="apt install openssl"):
        await measure_openssl()


def test_the_yardstick_before_and_after_is_averaged() -> None:
    first, second = Yardstick(Rsa(1, 10), Rsa(2, 20)), Yardstick(Rsa(3, 30), Rsa(6, 60))
    assert Yardstick.mean(first, second) == Yardstick(Rsa(2, 20), Rsa(4, 40))


async def test_a_closed_loop_keeps_so_many_in_flight_until_the_supply_ends() -> None:
    under_way, most = 0, 0

    async def carry_out(_: int) -> float:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return 0.25

    ticks: list[None] = []
    trial = await closed_loop(range(20), carry_out, 3, math.inf, lambda: ticks.append(None))
    assert (len(trial.latencies), len(ticks), most) == (20, 20, 3)
    assert trial.percentile_ms(0.5) == 250


async def test_a_closed_loop_ends_when_time_is_up() -> None:
    async def carry_out(_: int) -> float:
        return 0.0

    trial = await closed_loop(range(1000), carry_out, 1, 0.0, lambda: None)
    assert len(trial.latencies) == 1


def test_percentiles_are_of_the_nearest_rank() -> None:
    seconds = [number / 1000 for number in range(100, 0, -1)]
    assert [percentile_ms(seconds, part) for part in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert percentile_ms([0.007], 0.5) == 7
