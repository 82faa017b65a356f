"""`ecash simulate`: thousands of small worlds in which everything goes wrong, each from a seed."""

import importlib
from typing import Annotated

import typer

from .terminal import fail, told

Seeds = Annotated[int, typer.Option(min=1, help="How many worlds.")]
Seed = Annotated[int, typer.Option(min=0, help="The first one's seed; the next has the next one.")]
Trace = Annotated[bool, typer.Option("--trace", help="Print what happens in each world.")]
Processes = Annotated[int, typer.Option(min=1, help="How many to run side by side.")]
Strict = Annotated[bool, typer.Option("--strict", help="Fail if something that should be covered was not.")]


@told
def simulate(
    seeds: Seeds = 1, seed: Seed = 0, trace: Trace = False, processes: Processes = 1, strict: Strict = False
) -> None:
    """Run worlds of banks, shops and wallets under faults, and check that no money is lost or made.

    The same seed is the same world, whenever and wherever it is run. It needs the source tree.

    Example: ecash simulate --seeds 1000 --processes 2
    """
    try:
        command = importlib.import_module("tests.simulation.command")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("tests"):
            raise
        fail("the simulator comes with the source tree: run `pip install --editable .` there")
    raise typer.Exit(command.simulate(seeds, seed, processes, trace=trace, strict=strict))
