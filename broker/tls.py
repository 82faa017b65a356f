"""How an agent knows that it speaks to its broker, and what it tells a person when it does not."""

import os
import ssl
from pathlib import Path
from typing import Final

from .address import BrokerUrl
from .port import LinkDown, LinkError, NotTrusted

CA_VARIABLE: Final = "ECASH_BROKER_CA"
"""Names a PEM file of authorities that are trusted instead of the system's, when the address names none."""

_EXPIRED: Final = frozenset({9, 10})  # OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID, _HAS_EXPIRED
_OTHER_HOST: Final = frozenset({62, 64})  # _HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH


class _Socket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho would leave it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def client_context(url: BrokerUrl) -> ssl.SSLContext:
    """Return how a client speaks TLS, 1.2 at least, to a broker whose certificate it verifies.

    Raises:
        NotTrusted: a file that the address or `ECASH_BROKER_CA` names cannot be used.
    """
    ca = url.ca or (Path(os.environ[CA_VARIABLE]) if os.environ.get(CA_VARIABLE) else None)
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # an SSLError is one
        raise NotTrusted(f"{ca} cannot be used as the broker's authority: {_reason(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _Socket
    if url.cert:
        try:
            context.load_cert_chain(url.cert, password="")  # or OpenSSL would ask for one at the terminal
        except OSError as error:
            raise NotTrusted(f"{url.cert} cannot be used to log in: {_reason(error)}") from error
    return context


def no_connection(url: BrokerUrl, error: BaseException, cause: BaseException | None) -> LinkError:
    """Say why there is no connection, and what to do about it.

    Args:
        url: where it was tried.
        error: what the client says.
        cause: what it came from, if it came from anything.
    """
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NotTrusted(f"{url.public} is not trusted: {_advice(cause, url.host)}")
    if url.tls and isinstance(cause, ssl.SSLError | ConnectionResetError):
        return LinkDown(f"no connection: TLS failed ({_reason(cause)}); without TLS the address is mqtt:// or ws://")
    hung_up = not isinstance(cause, OSError) or isinstance(cause, ConnectionResetError)
    if hung_up and url.cert:
        return LinkDown(f"no connection: {error}; does the broker take certificates at this port, and this one's CA?")
    if hung_up and url.tls:
        return LinkDown(
            f"no connection: {error}; if the broker wants a certificate here, the address ends in &cert=FILE"
        )
    if hung_up:
        return LinkDown(f"no connection: {error}; if TLS is spoken there, the address is mqtts:// or wss://")
    return LinkDown(f"no connection: {error}")


def _advice(error: ssl.SSLCertVerificationError, host: str) -> str:
    if error.verify_code in _EXPIRED:
        return "its certificate is not valid now; the broker needs a new one (`ecash broker init` again), or a clock"
    if error.verify_code in _OTHER_HOST:
        return f"its certificate is another host's, not that of {host}; use the name that is in it"
    return (
        f"its certificate is signed by nobody this machine knows ({error.verify_message}); if it is signed by a CA of "
        f"your own, name that CA's file in the address as ?ca=FILE or in {CA_VARIABLE}"
    )


def _reason(error: OSError) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or str(error)
