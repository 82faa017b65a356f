"""What must be true of a wallet's file after every commit: no free coin is spent, and nothing waits for ever."""

from typing import Final

from ..customer import Customer
from ..world import World
from .books import BooksWatch

_LONGEST_MS: Final = 400 * 86_400_000


class WalletWatch:
    """Looks at a customer's file."""

    def __init__(self, world: World, customer: Customer, books: list[BooksWatch]) -> None:
        self._world = world
        self._customer = customer
        self._books = books

    def look(self) -> None:
        """Look at it, if something was committed."""
        customer = self._customer
        if str(customer.path) not in self._world.dirty or not customer.path.exists():
            return
        db = self._world.readers.read(customer.path)
        free = {serial for (serial,) in db.execute("SELECT serial FROM coin WHERE state = 'free'")}
        latest = self._world.now() + _LONGEST_MS
        query = "SELECT kind FROM exchange WHERE open AND (wake_at < 0 OR wake_at > ?)"
        endless = [kind for (kind,) in db.execute(query, [latest])]
        for kind in endless:
            self._world.fail(f"{customer.name}: a {kind} is open and has no deadline")
        if not customer.copied:
            for serial in sorted(set().union(*(free & one.spent for one in self._books))):
                self._world.fail(f"E7: {customer.name} holds coin {serial.hex()[:8]} as free, and it is spent")
