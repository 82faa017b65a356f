"""Targets that are texts: what people paste, type and link to, and what stands inside of it."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from agents.address import BankAddress
from agents.bank.ach import parse_destination, parse_originator
from agents.client.seed import entropy_of, words_of
from agents.client.transfer import broker_of
from agents.invitation import read_invitation, write_invitation
from agents.merchant.urls import is_private, is_site, is_web_url
from agents.web.forms import local_path
from agents.web.listen import Listen, origin_of
from agents.wire import describe
from broker.address import BrokerUrl
from broker.observe import Observer, line
from protocol import topics
from protocol.answer import seal_secret
from protocol.coins import Coin, Evidence, spend
from protocol.commission import parse_commission
from protocol.envelope import seal
from protocol.errors import PeerError
from protocol.messages import Payreq, Signed, Status
from protocol.money import parse_amount
from protocol.payment_link import PaymentLink
from protocol.recovery import SealedSpending, Spending, _derived, find_spending
from protocol.signatures import Domain, public_key
from protocol.text import write_word
from protocol.token import Acknowledgement, Token, TokenRequest, coins_of, open_acknowledgement, seal_acknowledgement
from tests.agents.byhand import Purse
from tests.agents.world import BANK, BROKER, SHOP, START, Town
from tests.world import seed

from .forms import RAW, TEXT
from .plain import raw
from .target import INSIDE, Target, checked

_KEY: Final = bytes(range(32))
_ID: Final = bytes(16)
_NEVER: Final = (PeerError, ValueError)


def word_targets(town: Town, purse: Purse, payreq: Payreq) -> list[Target]:
    """The targets; `purse` has a coin."""
    return [
        *_tokens(town, purse),
        *_links(town, payreq),
        *_spendings(purse),
        *_texts(town),
        *_seen(town),
    ]


def _tokens(town: Town, purse: Purse) -> Iterator[Target]:
    fingerprint, broker = bytes.fromhex(town.address.fingerprint), town.address.broker.public
    token = Token.of(BANK, fingerprint, broker, "USD", "for lunch", zip(purse.coins, purse.seeds, strict=True))
    asked = TokenRequest(1, BANK, fingerprint, broker, "USD", 5, "for lunch", "inbox", public_key(_KEY), START)
    told, about = Acknowledgement("already_spent", "somebody was faster"), token.hash
    sealed = seal_acknowledgement(_KEY, _ID, about, told)

    def token_inside(data: bytes) -> None:
        token = Token.parse(write_word("ECASH:", raw(data[:INSIDE])))
        broker_of(token.broker)
        coins_of(token, town.ring)

    def request_inside(data: bytes) -> None:
        request = TokenRequest.parse(write_word("ECASHREQ:", raw(data[:INSIDE])))
        broker_of(request.broker)
        seal(request.envelope_key, "token", b"a token")

    def told_inside(data: bytes) -> None:
        sealed = seal_acknowledgement(_KEY, _ID, about, raw(data[:INSIDE]))  # type: ignore[arg-type]
        open_acknowledgement(_KEY, about, sealed)

    yield _text("token", str(token), Token.parse, PeerError)
    yield Target("token, inside", [token.encode()], checked(token_inside, PeerError))
    yield _text("token request", str(asked), TokenRequest.parse, PeerError)
    yield Target("token request, inside", [asked.encode()], checked(request_inside, PeerError))
    check = checked(lambda data: open_acknowledgement(_KEY, about, data), PeerError)
    yield Target("acknowledgement", [sealed], check, RAW)
    yield Target("acknowledgement, inside", [told.encode()], checked(told_inside, PeerError))


def _links(town: Town, payreq: Payreq) -> Iterator[Target]:
    fingerprint, broker = bytes.fromhex(town.address.fingerprint), town.address.broker.public
    signed = Signed.make(town.shop.desk.keys.identity, Domain.PAYREQ, payreq)
    link = PaymentLink.of(SHOP, BANK, fingerprint, broker, signed.encode())

    def inside(data: bytes) -> None:
        parsed = PaymentLink.parse(write_word("WEB+ECASH:PAY/", raw(data[:INSIDE])).lower())
        assert parsed.unverified.encode() == Signed.decode(parsed.payreq).statement

    yield _text("payment link", str(link), PaymentLink.parse, PeerError)
    yield Target("payment link, inside", [link.encode()], checked(inside, PeerError))


def _spendings(purse: Purse) -> Iterator[Target]:
    coin = purse.coins[0]
    spent = spend(coin, purse.seeds[0], seed("digest"))

    def inside(data: bytes) -> Evidence | None:
        return find_spending([_sealed(coin, data[:900])], coin.denomination, coin.serial)

    yield Target("spending, inside", [Spending(seed("digest"), spent.spend).encode()], checked(inside, PeerError))


def _sealed(coin: Coin, data: bytes) -> SealedSpending:
    tag, key = (_derived(name, coin.denomination, coin.serial) for name in (b"tag", b"key"))
    return SealedSpending(tag[:16], seal_secret(key, tag[:16], data))


def _text(name: str, good: str, parse: Callable[[str], object], *expected: type[Exception]) -> Target:
    return Target(name, [good.encode()], checked(lambda data: parse(_read(data)), *expected), TEXT)


def _read(data: bytes) -> str:
    """As texts come from a command line: bytes that are no UTF-8 are lone surrogates."""
    return data.decode(errors="surrogateescape")


def _seen(town: Town) -> Iterator[Target]:
    """What who observes a broker is shown: a topic, and behind a line feed the payload."""
    observer = Observer(describe)
    envelope = bytes([1, 2]) + bytes(500)
    request = topics.BankRequest(BANK, 3, "withdraw", "client")
    good = {
        str(request): envelope,
        topics.reply_to(request, BANK): envelope,
        topics.keys(BANK): town.mint.announcement,
        topics.merchant_request(SHOP, "order", "x"): envelope,
        topics.status(BANK): Status(open=True, lanes=4).encode(),
    }

    def look(data: bytes) -> None:
        topic, _, payload = data.partition(b"\n")
        line(observer.see(START / 1000, _read(topic), payload, payload[:16] if len(payload) % 2 else None))

    yield Target("observer", [topic.encode() + b"\n" + payload for topic, payload in good.items()], checked(look), TEXT)
    for kind in ("keys", "catalog", "status", "withdraw"):
        yield Target(f"observer: {kind}", list(good.values()), checked(partial(describe, kind)))


def _texts(town: Town) -> Iterator[Target]:
    def topic(text: str) -> None:
        assert str(topics.parse(text)) == text

    def broker(text: str) -> None:
        url = BrokerUrl.parse(text)
        assert BrokerUrl.parse(str(url)) == url

    def address(text: str) -> None:
        parsed = BankAddress.parse(text)
        assert BankAddress.parse(str(parsed))._replace(broker=parsed.broker) == parsed

    def listen(text: str) -> None:
        parsed = Listen.parse(text)
        parsed.hosts("shop"), parsed.loopback, str(parsed)

    def url(text: str) -> None:
        is_web_url(text), is_site(text), is_private(text), local_path(text)

    sealed = topics.bank_request(BANK, 3, "withdraw", "client")
    forms = [sealed, topics.keys(BANK), topics.merchant_request(SHOP, "order", "x"), "ecash/v1/reply/x/north"]
    yield Target("topic", [one.encode() for one in forms], checked(lambda data: topic(_read(data)), PeerError), TEXT)
    yield _text("broker address", "mqtts://us%20er:p%40ss@[::1]:8883", broker, ValueError)
    yield _text("broker address, plain", BROKER, broker, ValueError)
    yield _text("broker in a token", BROKER, broker_of, PeerError)
    yield _text("bank address", str(town.address), address, *_NEVER)
    yield _text("amount", "12.34 USD", parse_amount, ValueError)
    yield _text("commission", "1.5% + 0.30 min 0.10 max 5.00", lambda text: parse_commission(text, "USD"), ValueError)
    yield _text("invitation", write_invitation(_ID), read_invitation, ValueError)
    yield _text("twelve words", words_of(_ID), entropy_of, ValueError)
    yield _text("listening address", "0.0.0.0:8080", listen, ValueError)
    yield _text("origin", "https://shop.example:444", origin_of, ValueError)
    yield _text("web address", "https://shop.example:444/thanks?a=b", url)
    yield _text(
        "ACH destination", "021000021,12345,checking,The Keeper", lambda t: parse_destination(*_parts(t, 4)), ValueError
    )
    agreed = "021000021,Some Bank,123456789,Bank of North,1234567890,02100002"
    yield _text("ACH originator", agreed, lambda text: parse_originator(*_parts(text, 6)), ValueError)


def _parts(text: str, count: int) -> list[str]:
    return (text.split(",") + [""] * count)[:count]
