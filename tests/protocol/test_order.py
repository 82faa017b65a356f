"""The commitment to an order."""

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from protocol.messages import order_digest, order_line_hash
from protocol.order import digest_of_lines, line_hash, line_salt

SALT = bytes(range(16))


def test_the_digest_is_the_one_that_the_page_describes() -> None:
    salt = hmac.new(SALT, b"ecash/v1 order line\0\0\0\0\1", hashlib.sha256).digest()
    assert line_salt(SALT, 1) == salt
    assert line_hash(salt, "tea") == hashlib.sha256(salt + b"tea").digest()
    hidden = [order_line_hash(SALT, 0, "coffee"), line_hash(salt, "tea")]
    assert order_digest(SALT, ("coffee", "tea")) == hashlib.sha256(b"ecash/v1 order\0" + b"".join(hidden)).digest()


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5), st.data())
def test_one_line_is_opened_without_the_others(lines: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(lines) - 1))
    hashes = [order_line_hash(SALT, i, line) for i, line in enumerate(lines)]
    hashes[index] = line_hash(line_salt(SALT, index), lines[index])
    assert digest_of_lines(hashes) == order_digest(SALT, tuple(lines))
    hashes[index] = line_hash(line_salt(SALT, index), lines[index] + "!")
    assert digest_of_lines(hashes) != order_digest(SALT, tuple(lines))
