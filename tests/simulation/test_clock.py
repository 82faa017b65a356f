import asyncio

from .clock import VirtualClock


async def test_sleepers_wake_when_their_time_has_come_and_in_its_order() -> None:
    clock, woken = VirtualClock(0), list[int]()

    async def sleep(until: int) -> None:
        await clock.sleep_until(until)
        woken.append(until)

    tasks = [asyncio.create_task(sleep(until)) for until in (30, 10, 20, 0)]
    await tasks[3]
    clock.advance(20)
    await asyncio.gather(tasks[1], tasks[2])
    assert woken == [0, 10, 20]
    clock.advance(10)
    await tasks[0]
    assert clock.now() == 30
