from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agents.client.store import BankRow, CoinsTaken, ExchangeRow, Note, WalletStore
from protocol.coins import Coin
from protocol.wallet import payment, withdrawal
from protocol.wallet.purse import KeepCoins, ReleaseCoins, ReserveCoins, SetCoinsAside, SpendCoins

VALUES = {b"d" * 32: ("USD", 8)}
COINS = tuple(Coin(b"d" * 32, bytes([i]) * 32, bytes(256)) for i in range(3))
SERIALS = tuple(coin.serial for coin in COINS)


def exchange(name: bytes = b"w", kind: str = "withdraw", state: object = withdrawal.New()) -> ExchangeRow:
    return ExchangeRow(name * 16, kind, "north", state, open=True, wake_at=1, begun_at=1, note=Note(8, "USD"))  # type: ignore[arg-type]


def paid(*serials: bytes) -> payment.Payment:
    return payment.Payment(bytes(32), "shop", "north", serials, 5, b"p" * 16, b"", b"i" * 16, b"")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[WalletStore]:
    async with WalletStore(tmp_path / "wallet.db") as store:
        await store.save_bank(BankRow("north", "address", b"keyset", None, None, None))
        await store.save(
            exchange(state=withdrawal.Issued(24, 0)), [KeepCoins(b"w" * 16, tuple(enumerate(COINS)))], VALUES
        )
        yield store


async def test_a_step_and_its_coins_are_stored_together(store: WalletStore) -> None:
    assert [held.coin for held in await store.coins("north", "USD")] == list(COINS)
    assert [held.position for held in await store.coins("north", "USD")] == [0, 1, 2]
    assert await store.holdings() == [("north", "USD", "free", 8, 3)]
    assert await store.exchanges(only_open=True) == []
    assert await store.exchange(b"w" * 16) == exchange(state=withdrawal.Issued(24, 0))._replace(open=False)


@pytest.mark.parametrize(("generation", "next_"), [(3, (0, 0)), (0, (0, 7))])
async def test_a_new_device_counts_its_exchanges_from_where_a_recovery_begins_and_uses_no_number_twice(
    store: WalletStore, generation: int, next_: tuple[int, int]
) -> None:
    await store.write(lambda db: db.execute("UPDATE bank SET generation = ?, counter = 7", (generation,)))
    await store.restored(b"new device".ljust(16))
    assert await store.next_counter("north") == next_


async def test_a_coin_is_reserved_once_and_a_step_that_cannot_have_it_leaves_nothing(store: WalletStore) -> None:
    first = exchange(b"1", "pay", payment.Paying(paid(SERIALS[0]), 1))
    assert (await store.save(first, [ReserveCoins(SERIALS[:1])], VALUES)).open
    second = exchange(b"2", "pay", payment.Paying(paid(*SERIALS), 1))
    with pytest.raises(CoinsTaken):
        await store.save(second, [ReserveCoins(SERIALS[::-1])], VALUES)
    with pytest.raises(KeyError):
        await store.exchange(b"2" * 16)
    assert await store.holdings() == [("north", "USD", "free", 8, 2), ("north", "USD", "reserved", 8, 1)]


async def test_what_ends_a_payment_moves_its_coins(store: WalletStore) -> None:
    row = exchange(b"1", "pay", payment.Paying(paid(*SERIALS), 1))
    effects = [
        ReserveCoins(SERIALS),
        SpendCoins(SERIALS[:1]),
        ReleaseCoins(SERIALS[1:2]),
        SetCoinsAside(SERIALS[2:]),
    ]
    await store.save(row, effects, VALUES)
    assert await store.holdings() == [("north", "USD", "aside", 8, 1), ("north", "USD", "free", 8, 1)]


async def test_a_coin_that_was_not_reserved_is_not_spent(store: WalletStore) -> None:
    with pytest.raises(CoinsTaken):
        await store.save(exchange(b"1", "pay", payment.New()), [SpendCoins(SERIALS[:1])], VALUES)
    assert await store.holdings() == [("north", "USD", "free", 8, 3)]
