"""Where the shop's site is found, and the names that it answers to."""

from typing import Final, NamedTuple
from urllib.parse import urlsplit

from ...home import HomeError
from ...web.listen import Listen, origin_of

OWN_NAME: Final = "shop"
"""The shop's name below `.localhost`, where nobody else is to reach it."""


class Names(NamedTuple):
    """What a site is called: in Host headers, as the origin of its pages behind a proxy, and to buyers."""

    hosts: frozenset[str]
    origins: frozenset[str]
    url: str


def names_of(listen: Listen, public_url: str) -> Names:
    """Return what the shop's site is called.

    Args:
        listen: where it is served.
        public_url: the address at which buyers find it; without one it answers to this machine's own names alone.

    Raises:
        HomeError: if it has no port, or other machines can reach it and nobody has said under which name.
        ValueError: if the address is none, with a sentence for the person who typed it.
    """
    if listen.port == 0:
        raise HomeError("choose a port for the shop's pages, such as --web :8080: they are known by it")
    hosts = listen.hosts(OWN_NAME)
    if public_url:
        origin = origin_of(public_url)
        return Names(hosts | {urlsplit(origin).netloc}, frozenset({origin}), origin)
    if listen.everywhere:
        raise HomeError(
            f"{listen} can be reached by other machines: say under which address buyers find the shop "
            "(--public-url https://shop.example), or listen on this machine alone (--web :8080)"
        )
    return Names(hosts, frozenset(), f"http://{OWN_NAME}.localhost:{listen.port}")
