"""Raw RSA by OpenSSL: ctypes on the libcrypto that the interpreter itself uses.

No Python package offers RSA without padding, and CPython's own `pow` is ten times slower and not constant-time.
OpenSSL blinds the base of every private operation (the caller chooses what is signed) and checks the result of
the Chinese remainder theorem. ctypes releases the GIL around each call, so operations run in parallel.
"""

import _hashlib
import ctypes
import ctypes.util
import threading
import weakref
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_size_t, c_ulong, c_void_p
from functools import cache
from typing import Final

from protocol.blind_rsa import SignerFault
from protocol.errors import OurError

_PROTOTYPES: Final = {
    "d2i_AutoPrivateKey": (c_void_p, [POINTER(c_void_p), POINTER(c_char_p), c_long]),
    "EVP_PKEY_free": (None, [c_void_p]),
    "EVP_PKEY_CTX_new": (c_void_p, [c_void_p, c_void_p]),
    "EVP_PKEY_CTX_free": (None, [c_void_p]),
    "EVP_PKEY_CTX_ctrl_str": (c_int, [c_void_p, c_char_p, c_char_p]),
    "EVP_PKEY_decrypt_init": (c_int, [c_void_p]),
    "EVP_PKEY_decrypt": (c_int, [c_void_p, c_char_p, POINTER(c_size_t), c_char_p, c_size_t]),
    "EVP_PKEY_encrypt_init": (c_int, [c_void_p]),
    "EVP_PKEY_encrypt": (c_int, [c_void_p, c_char_p, POINTER(c_size_t), c_char_p, c_size_t]),
    "ERR_get_error": (c_ulong, []),
    "ERR_clear_error": (None, []),
    "ERR_error_string_n": (None, [c_ulong, c_char_p, c_size_t]),
}


@cache
def _libcrypto() -> ctypes.CDLL:
    """The library with all prototypes set; raises ImportError when there is none.

    `_hashlib` is linked against libcrypto, so the symbols resolve through it; where it is built into the
    interpreter, the system's library takes its place.
    """
    for name in (getattr(_hashlib, "__file__", None), ctypes.util.find_library("crypto")):
        library = ctypes.CDLL(name) if name else None
        if library is not None and all(hasattr(library, function) for function in _PROTOTYPES):
            for function, (restype, argtypes) in _PROTOTYPES.items():
                bound = getattr(library, function)
                bound.restype, bound.argtypes = restype, argtypes
            return library
    raise ImportError("no libcrypto to be found")


def _fault(what: str) -> SignerFault:
    """An error that tells OpenSSL's reason, and leaves its queue empty for the thread's next caller (ssl)."""
    reason = ctypes.create_string_buffer(256)
    _libcrypto().ERR_error_string_n(_libcrypto().ERR_get_error(), reason, len(reason))
    _libcrypto().ERR_clear_error()
    return SignerFault(f"{what}: {reason.value.decode(errors='replace')}")


class _Operation:
    """One direction of raw RSA with its own EVP_PKEY_CTX; for one thread."""

    def __init__(self, key: int, direction: str, modulus_bytes: int) -> None:
        library = _libcrypto()
        context = library.EVP_PKEY_CTX_new(key, None)
        if not context:
            raise _fault("EVP_PKEY_CTX_new")
        weakref.finalize(self, library.EVP_PKEY_CTX_free, context)
        initialise = getattr(library, f"EVP_PKEY_{direction}_init")
        if initialise(context) != 1 or library.EVP_PKEY_CTX_ctrl_str(context, b"rsa_padding_mode", b"none") != 1:
            raise _fault(f"EVP_PKEY_{direction}_init")
        self._context = context
        self._call = getattr(library, f"EVP_PKEY_{direction}")
        self._direction = direction
        self._output = ctypes.create_string_buffer(modulus_bytes)

    def __call__(self, block: bytes) -> bytes:
        length = c_size_t(len(self._output))
        result = self._call(self._context, self._output, byref(length), block, len(block))
        if result != 1 or length.value != len(self._output):
            raise _fault(f"EVP_PKEY_{self._direction}")
        return self._output.raw


class _ThreadOperations(threading.local):
    """Both directions, made anew in each thread: a key may be shared by threads, a context may not."""

    def __init__(self, key: int, modulus_bytes: int) -> None:
        self.private = _Operation(key, "decrypt", modulus_bytes)
        self.public = _Operation(key, "encrypt", modulus_bytes)


class RawRsaKey:
    """An RSA key in OpenSSL's hands, for raw operations on big-endian blocks of the modulus's length.

    May be used by many threads at once. Only `close` wants to be alone.
    """

    def __init__(self, pkcs8: bytes, modulus_bytes: int) -> None:
        """Load an unencrypted DER PKCS#8 key.

        Args:
            pkcs8: the private key.
            modulus_bytes: the length of its modulus.

        Raises:
            SignerFault: OpenSSL does not take the key.
        """
        library = _libcrypto()
        key = library.d2i_AutoPrivateKey(None, byref(c_char_p(pkcs8)), len(pkcs8))
        if not key:
            raise _fault("d2i_AutoPrivateKey")
        self._free = weakref.finalize(self, library.EVP_PKEY_free, key)
        self._operations: _ThreadOperations | None = _ThreadOperations(key, modulus_bytes)

    def private_operation(self, block: bytes) -> bytes:
        """RSADP (RFC 8017 section 5.1.2), constant-time: block ** d mod n, unchecked; 0.7 ms for 2048 bits.

        Raises:
            SignerFault: OpenSSL fails, as it does when the block is n or more.
            OurError: the key is closed.
        """
        return self._open().private(block)

    def public_operation(self, block: bytes) -> bytes:
        """RSAEP (RFC 8017 section 5.1.1): block ** e mod n; 0.025 ms for 2048 bits. Raises as its counterpart."""
        return self._open().public(block)

    def _open(self) -> _ThreadOperations:
        if self._operations is None:
            raise OurError("the key is closed")
        return self._operations

    def close(self) -> None:
        """Free the key and the contexts of all threads; a second call does nothing."""
        self._operations = None
        self._free()
