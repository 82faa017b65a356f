"""`ecash bench`: measure withdrawals, deposits and purchases on this machine."""

from typing import Annotated, Final

import typer

from ..service import until_stopped
from ..terminal import fail, out, print_json, run, told
from .failure import BenchFailed
from .measure import measure
from .report import Plan, Report
from .rig import BROKERS, MOST_DENOMINATIONS, best_broker

app = typer.Typer(
    no_args_is_help=True,
    help="How fast are bank and merchant here? In a temporary world, compared to `openssl speed` of the same minute.",
)

_MAX_COINS: Final = 100

BrokerKind = Annotated[
    str, typer.Option(help="embedded or mosquitto; mosquitto unless given, if it is installed.", show_default=False)
]
Seconds = Annotated[float, typer.Option(min=0.1, help="How long to measure.")]
InFlight = Annotated[int, typer.Option("--in-flight", "--concurrency", min=1, max=256, help="How many at once.")]
Coins = Annotated[int, typer.Option(min=1, max=_MAX_COINS, help="Coins in each request.")]
Prices = Annotated[int, typer.Option(min=1, max=MOST_DENOMINATIONS, help="Coins that the price takes.")]
WarmUp = Annotated[
    int, typer.Option(min=1, help="Requests before the clock starts; they also tell how many to prepare.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="End standard output with one JSON object, instead of a table.")]


@app.command()
@told
def purchase(
    broker: BrokerKind = "",
    seconds: Seconds = 10,
    in_flight: InFlight = 1,
    coins: Prices = 8,
    warm_up: WarmUp = 10,
    as_json: JsonFlag = False,
) -> None:
    """Measure purchases: from paying, with coins in hand, to the merchant's receipt with the bank's verdict.

    Example: ecash bench purchase --seconds 20
    """
    _bench(Plan("purchase", _broker(broker), seconds, in_flight, coins, warm_up), as_json)


@app.command()
@told
def withdraw(
    broker: BrokerKind = "",
    seconds: Seconds = 10,
    in_flight: InFlight = 16,
    coins: Coins = 8,
    warm_up: WarmUp = 64,
    as_json: JsonFlag = False,
) -> None:
    """Measure withdrawals: from publishing a sealed request to the opened answer, with the coins still blinded.

    Example: ecash bench withdraw --coins 64 --json
    """
    _bench(Plan("withdraw", _broker(broker), seconds, in_flight, coins, warm_up), as_json)


@app.command()
@told
def deposit(
    broker: BrokerKind = "",
    seconds: Seconds = 5,
    in_flight: InFlight = 16,
    coins: Coins = 8,
    warm_up: WarmUp = 64,
    as_json: JsonFlag = False,
) -> None:
    """Measure deposits: from publishing a payment to the bank's verdict. The coins are withdrawn before: be patient.

    Example: ecash bench deposit --in-flight 32
    """
    _bench(Plan("deposit", _broker(broker), seconds, in_flight, coins, warm_up), as_json)


def _broker(kind: str) -> str:
    if kind and kind not in BROKERS:
        fail(f"there is no broker {kind}: it is embedded or mosquitto")
    return kind or best_broker()


def _bench(plan: Plan, as_json: bool) -> None:
    reports: list[Report] = []

    async def work() -> None:
        reports.append(await measure(plan))

    try:
        run(until_stopped(work()))
    except BenchFailed as error:
        fail(str(error))
    if not reports:
        raise typer.Exit(130)
    if as_json:
        print_json(reports[0].flat())
    else:
        out.print(reports[0].shown())
    if reports[0].faults:
        raise typer.Exit(1)
