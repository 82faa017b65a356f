from collections.abc import Iterator

import pytest

from broker.mosquitto import NotInstalled, find

from .town import Town, open_town


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One mosquitto with every listener for all tests of the folder."""
    try:
        find("mosquitto")
    except NotInstalled as missing:
        pytest.skip(str(missing))
    with open_town(tmp_path_factory.mktemp("town") / "broker") as made:
        yield made
