"""The seed of a wallet: BIP 39 words for its owner, sealed under a passphrase in its file.

The passphrase is stretched with Argon2id (RFC 9106) and seals the words' entropy with XChaCha20-Poly1305. Without
it the file spends nothing.
"""

from difflib import get_close_matches
from typing import Annotated, Final

import msgspec
from mnemonic import Mnemonic
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id

from protocol.codec import Bytes16, Message
from protocol.derivation import Root

_CONTEXT: Final = b"ecash/v1 wallet seed"
_BIP39: Final = Mnemonic("english")
_LIST: Final = frozenset(_BIP39.wordlist)
ENTROPY_BYTES: Final = 16
WORDS: Final = 12
"""128 bits of entropy make twelve words."""
HARD = (argon2id.OPSLIMIT_MODERATE, argon2id.MEMLIMIT_MODERATE)
"""libsodium's moderate cost: 256 MiB, about a second."""
LIGHT: Final = (argon2id.OPSLIMIT_INTERACTIVE, argon2id.MEMLIMIT_INTERACTIVE)
"""Its interactive cost: 64 MiB."""


class WrongPassphrase(Exception):
    """The passphrase does not open the wallet."""


class SealedSeed(Message, frozen=True):
    """What the wallet's file holds of its seed. `ops` and `memory` (bytes) are Argon2id's cost.

    A file from somewhere else must not cost more than we would write.
    """

    ops: Annotated[int, msgspec.Meta(ge=argon2id.OPSLIMIT_MIN, le=argon2id.OPSLIMIT_MODERATE)]
    memory: Annotated[int, msgspec.Meta(ge=argon2id.MEMLIMIT_MIN, le=argon2id.MEMLIMIT_MODERATE)]
    salt: Bytes16
    nonce: Annotated[bytes, msgspec.Meta(min_length=24, max_length=24)]
    ciphertext: Annotated[bytes, msgspec.Meta(min_length=ENTROPY_BYTES + 16, max_length=ENTROPY_BYTES + 16)]


def words_of(entropy: bytes) -> str:
    """Return the twelve words that stand for 16 bytes."""
    return _BIP39.to_mnemonic(entropy)


def entropy_of(words: str) -> bytes:
    """Return the 16 bytes that twelve words stand for.

    Raises:
        ValueError: if they are not twelve, a word is not on the list, or the checksum says that one is wrong; the
            text says where to look.
    """
    typed = words.lower().split()
    if len(typed) != WORDS:
        raise ValueError(f"a wallet has twelve words, and these are {len(typed)}: look for one left out or doubled")
    for place, word in enumerate(typed, start=1):
        if word not in _LIST:
            near = " or ".join(get_close_matches(word, _BIP39.wordlist)) or "another one"
            raise ValueError(f"word {place} is misspelt: {word[:20]!a} is none of the BIP 39 words; perhaps {near}")
    if not _BIP39.check(" ".join(typed)):
        raise ValueError("these words do not belong together: one is wrong, or two are swapped")
    return bytes(_BIP39.to_entropy(typed))


def root_of(entropy: bytes) -> Root:
    """Return the root of all the wallet's secrets."""
    return Root(_BIP39.to_seed(words_of(entropy)))


def seal_seed(entropy: bytes, passphrase: str, salt: bytes, nonce: bytes, *, hard: bool = True) -> SealedSeed:
    """Seal the seed.

    Args:
        entropy: 16 bytes.
        passphrase: the owner's.
        salt: 16 random bytes.
        nonce: 24 random bytes.
        hard: whether stretching the passphrase costs `HARD`; else `LIGHT`, for tests.
    """
    ops, memory = HARD if hard else LIGHT
    key = argon2id.kdf(32, passphrase.encode(), salt, ops, memory)
    ciphertext = crypto_aead_xchacha20poly1305_ietf_encrypt(entropy, _CONTEXT, nonce, key)
    return SealedSeed(ops, memory, salt, nonce, ciphertext)


def open_seed(sealed: SealedSeed, passphrase: str) -> bytes:
    """Return the seed's 16 bytes.

    Raises:
        WrongPassphrase: if it does not open.
    """
    key = argon2id.kdf(32, passphrase.encode(), sealed.salt, sealed.ops, sealed.memory)
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed.ciphertext, _CONTEXT, sealed.nonce, key)
    except CryptoError:
        raise WrongPassphrase("the passphrase does not open this wallet") from None
