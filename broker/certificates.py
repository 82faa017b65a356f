"""A small certificate authority for one broker: its server certificate, and log-ins of banks and merchants.

ECDSA P-256 throughout. What a certificate may be used for stands in it (RFC 5280 section 4.2.1.12), so the server's
logs nobody in, and a bank's cannot pose as the broker.
"""

import datetime
import ipaddress
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS: Final = 3650
SERVER_DAYS: Final = 398
"""The longest that browsers accept of a server's certificate."""
AGENT_DAYS: Final = 730

_SKEW: Final = datetime.timedelta(hours=1)  # clocks differ
_Extensions = list[tuple[x509.ExtensionType, bool]]


class Issued(NamedTuple):
    """A certificate and its private key, PKCS #8, both as PEM."""

    certificate: bytes
    key: bytes


def new_authority(name: str, now: datetime.datetime) -> Issued:
    """Make an authority, valid for ten years, that signs certificates of one level below it."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = _key_usage(certificates=True)
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    return _issue(name, key, None, now, CA_DAYS, [(constraints, True), (usage, True)])


def server_certificate(authority: Issued, host: str, now: datetime.datetime) -> Issued:
    """Issue the certificate of the broker at a host: a name or an IP address; `localhost` is always added.

    Raises:
        ValueError: the host is neither.
    """
    alternatives = x509.SubjectAlternativeName([_general_name(host), x509.DNSName("localhost")])
    extensions: _Extensions = [(alternatives, False), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]
    return _below(authority, host[:64], now, SERVER_DAYS, extensions)


def agent_certificate(authority: Issued, name: str, now: datetime.datetime) -> Issued:
    """Issue the log-in of a bank or merchant, whose name is the certificate's common name."""
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    return _below(authority, name, now, AGENT_DAYS, [(usage, False)])


def _below(authority: Issued, name: str, now: datetime.datetime, days: int, extensions: _Extensions) -> Issued:
    basic: _Extensions = [(x509.BasicConstraints(ca=False, path_length=None), True), (_key_usage(), True)]
    return _issue(name, ec.generate_private_key(ec.SECP256R1()), authority, now, days, basic + extensions)


def _issue(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    authority: Issued | None,
    now: datetime.datetime,
    days: int,
    extensions: _Extensions,
) -> Issued:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signing_key = (subject, key) if authority is None else _opened(authority)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    signed = builder.sign(signing_key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Issued(signed.public_bytes(Encoding.PEM), pem)


def _opened(authority: Issued) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
    key = load_pem_private_key(authority.key, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is none of ours")
    return x509.load_pem_x509_certificate(authority.certificate).subject, key


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )
