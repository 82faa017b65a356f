"""What a benchmark tells: first the ten figures that every kind has, then what explains them."""

from typing import Final, NamedTuple, Self

import msgspec
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..terminal import table
from .load import Trial
from .yardstick import Yardstick, cores

_METHOD: Final = (
    "Method: durable store, fsync on{where}; bank{and_merchant} and broker as processes of their own; the load comes "
    "from another process of the same machine, {in_flight} in flight; everything was prepared before the clock started."
)


class Cpu(NamedTuple):
    """Seconds of processor time that each process has used; 0 for one that is not there, or not known."""

    bank: float
    merchant: float
    broker: float
    load: float

    def since(self, before: Self) -> "Cpu":
        """Return what was used since `before`."""
        return Cpu(*(now - then for now, then in zip(self, before, strict=True)))


class Plan(NamedTuple):
    """What to measure: so many seconds of a kind of load, after `warm_up` requests that do not count."""

    kind: str
    broker: str
    seconds: float
    in_flight: int
    coins: int
    warm_up: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one benchmark, in the order in which they are printed.

    `openssl_private_per_s` and `openssl_public_per_s` are those of all cores together; `ratio_to_openssl` is coins per
    private operation, `ratio_to_openssl_public` coins per public one. `efficiency` is the processor time that openssl
    takes for one operation a coin (private to withdraw, public otherwise), as a part of what bank, merchant and broker
    have used: it needs no idle machine. (The embedded broker's is not known, and counts as none.)
    """

    coins_per_s: float
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    openssl_private_per_s: float
    ratio_to_openssl: float
    cores: int
    store: str
    broker: str
    durable: bool
    kind: str
    coins_per_request: int
    in_flight: int
    requests: int
    seconds: float
    openssl_public_per_s: float
    ratio_to_openssl_public: float
    efficiency: float
    bank_cpu_ms_per_request: float
    merchant_cpu_ms_per_request: float
    broker_cpu_ms_per_request: float
    load_cpu_ms_per_request: float
    connect_p50_ms: float
    order_p50_ms: float
    faults: list[str] = []

    def flat(self) -> dict[str, object]:
        """Return the fields in their order, for JSON, with figures rounded."""
        figures = msgspec.to_builtins(self)
        return {name: _short(value) if isinstance(value, float) else value for name, value in figures.items()}

    def shown(self) -> Group:
        """Return the figures for a person."""
        rows = table("", self.kind, "", right=[1])
        _add(rows, "coins", self.coins_per_s, "/s")
        _add(rows, "requests", self.requests_per_s, f"/s, of {self.coins_per_request} coins")
        what = "from paying to the receipt" if self.merchant_cpu_ms_per_request else "from publishing to the answer"
        _add(rows, "latency p50", self.p50_ms, f"ms {what}")
        _add(rows, "latency p99", self.p99_ms, f"ms, of {self.requests} requests in {self.seconds:.1f} s")
        if self.order_p50_ms:
            _add(rows, "connecting p50", self.connect_p50_ms, "ms, before")
            _add(rows, "ordering p50", self.order_p50_ms, "ms, before")
        _add(rows, "openssl rsa2048 private", self.openssl_private_per_s, f"/s on {self.cores} cores")
        _add(rows, "coins to private", self.ratio_to_openssl, "")
        _add(rows, "openssl rsa2048 public", self.openssl_public_per_s, f"/s on {self.cores} cores")
        _add(rows, "coins to public", self.ratio_to_openssl_public, "")
        which = "private" if self.kind == "withdraw" else "public"
        _add(rows, "efficiency", self.efficiency, f"one {which} operation a coin, as part of the CPU time")
        for who in ("bank", "merchant", "broker", "load"):
            used: float = getattr(self, f"{who}_cpu_ms_per_request")
            if used:
                _add(rows, f"{who} CPU", used, "ms a request")
        merchant = ", merchant" if self.merchant_cpu_ms_per_request else ""
        where = "" if self.durable else " (but in memory: set TMPDIR to a folder on a disk)"
        method = _METHOD.format(where=where, and_merchant=merchant, in_flight=self.in_flight)
        verdict = Text("audit: the books balance", "green")
        if self.faults:
            verdict = Text("\n".join(["audit: THE BOOKS DO NOT BALANCE", *self.faults]), "bold red")
        store = Text(f"store: {self.store}; broker: {self.broker}")
        return Group(rows, store, Text(method, "dim"), verdict)


def _short(value: float) -> float:
    return round(value, 1 if value >= 1000 else 4)


def _add(rows: Table, name: str, value: float, unit: str) -> None:
    rows.add_row(name, f"{value:,.0f}" if value >= 1000 else f"{value:,.2f}", unit)


def report_of(plan: Plan, trial: Trial, cpu: Cpu, openssl: Yardstick, more: dict[str, float], durable: bool) -> Report:
    """Return the report of a trial.

    Args:
        plan: what was to be measured.
        trial: what came of it.
        cpu: what each process used meanwhile.
        openssl: the yardstick, from before and after.
        more: `connect_p50_ms` and `order_p50_ms` of purchases.
        durable: whether the books were on a disk.
    """
    requests = len(trial.latencies)
    coins_per_s = trial.per_second * plan.coins
    server = cpu.bank + cpu.merchant + cpu.broker
    operations_per_s = openssl.one.private if plan.kind == "withdraw" else openssl.one.public
    a_request = Cpu(*(1000 * seconds / requests for seconds in cpu))
    return Report(
        coins_per_s=coins_per_s,
        requests_per_s=trial.per_second,
        p50_ms=trial.percentile_ms(0.50),
        p99_ms=trial.percentile_ms(0.99),
        openssl_private_per_s=openssl.all.private,
        ratio_to_openssl=coins_per_s / openssl.all.private,
        cores=cores(),
        store="sqlite",
        broker=plan.broker,
        durable=durable,
        kind=plan.kind,
        coins_per_request=plan.coins,
        in_flight=plan.in_flight,
        requests=requests,
        seconds=trial.elapsed,
        openssl_public_per_s=openssl.all.public,
        ratio_to_openssl_public=coins_per_s / openssl.all.public,
        efficiency=requests * plan.coins / operations_per_s / server if server else 0.0,
        bank_cpu_ms_per_request=a_request.bank,
        merchant_cpu_ms_per_request=a_request.merchant,
        broker_cpu_ms_per_request=a_request.broker,
        load_cpu_ms_per_request=a_request.load,
        connect_p50_ms=more.get("connect_p50_ms", 0.0),
        order_p50_ms=more.get("order_p50_ms", 0.0),
    )
