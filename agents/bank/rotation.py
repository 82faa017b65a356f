"""Keys live and die: the keysets that follow the first one.

A new *epoch* has new keys for the same values; the old ones go on until their own dates, which never move. A revoked
key is out of use at once. Private keys are written before the keyset that names them, and go when nothing may be
minted with them any more.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import msgspec

from protocol.keyset import Keyset, check_successor, fingerprint, open_keyset

from ..trace import point
from ..world import Entropy
from .home import DAY_MS, Settings, keys_of, limits_of, new_denominations, new_envelope_key, sign_keyset, tariff_of

GRACE_MS: Final = DAY_MS
"""How long after mint-until a private key is kept."""


def rotate(
    home: Path,
    known: Keyset,
    now: int,
    settings: Settings,
    *,
    mint_from: int = 0,
    envelope: Entropy | None = None,
    revoked: Collection[bytes] = (),
) -> Keyset:
    """Return the keyset that follows `known`; its private keys are in the home. The caller signs and enters it.

    Commission and limits are those of the settings as they are now.

    Args:
        home: the bank's.
        known: the newest keyset.
        now: milliseconds since 1970.
        settings: the home's.
        mint_from: when the new epoch begins; now, if it is 0.
        envelope: makes a new envelope key, too, if it is given; the old ones still open.
        revoked: ids of denominations to revoke. There is no new epoch then: only the values that would not be minted
            any more have new keys.

    Raises:
        ValueError: if the new epoch would begin in the past, a denomination to revoke is unknown or revoked already,
            or a setting makes no sense; no key was made then.
    """
    revoking = dict.fromkeys(revoked)
    alive = {denomination.id for denomination in known.denominations} - set(known.revoked)
    unknown = [key for key in revoking if key not in alive]
    if unknown:
        raise ValueError(f"denomination {unknown[0].hex()[:16]} is none of the bank's, or is revoked already")
    if mint_from and mint_from < now:
        raise ValueError("a new epoch begins now or later")
    tariff, limits = tariff_of(settings), limits_of(settings)
    envelope_keys = known.envelope_keys
    if envelope is not None:
        envelope_keys = (new_envelope_key(home, envelope).public, *envelope_keys)
    if revoking:
        vacancies = _vacancies(known, revoking.keys(), now)
        new = [d for begin, values in vacancies.items() for d in new_denominations(home, settings, begin, values)]
    else:
        new = list(new_denominations(home, settings, mint_from or now))
    return msgspec.structs.replace(
        known,
        number=known.number + 1,
        chain=(*known.chain, known.hash),
        issued_at=now,
        envelope_keys=envelope_keys,
        denominations=(*(d for d in known.denominations if now < d.redeem_until), *new),
        tariff=tariff,
        limits=limits,
        revoked=(*known.revoked, *revoking),
    )


def _vacancies(known: Keyset, revoking: Collection[bytes], now: int) -> dict[int, list[int]]:
    """Return the values that a revocation would leave without a key to mint, by when their new keys begin."""
    sound = [d for d in known.denominations if d.id not in revoking and d.id not in known.revoked]
    found: defaultdict[int, set[int]] = defaultdict(set)
    for lost in known.denominations:
        begin = max(now, lost.mint_from)
        replaced = any(
            (d.currency, d.value) == (lost.currency, lost.value)
            and d.mint_from <= begin
            and d.mint_until >= lost.mint_until
            for d in sound
        )
        if lost.id in revoking and now < lost.mint_until and not replaced:
            found[begin].add(lost.value)
    return {begin: sorted(values) for begin, values in sorted(found.items())}


def announcement_of(home: Path, known: Keyset, keyset: Keyset) -> bytes:
    """Return the successor of `known`, signed, after a look at it with the eyes of a wallet.

    Raises:
        PeerError: if a wallet would refuse it; it must not be entered then.
    """
    data = sign_keyset(keys_of(home).identity, keyset)
    old = [denomination.id for denomination in known.denominations]
    check_successor(known, open_keyset(known.bank, fingerprint(known.identity), data, old))
    return data


def forget_keys(home: Path, keysets: Iterable[Keyset], now: int) -> int:
    """Delete the private keys of denominations that are not minted any more, and return how many.

    A running bank has them in memory until it ends, and signs nothing with them.

    Args:
        home: the bank's.
        keysets: all that were ever announced, the newest last.
        now: milliseconds since 1970.
    """
    announced: set[bytes] = set()
    for keyset in keysets:
        announced |= {d.id for d in keyset.denominations}
        needed = {d.id for d in keyset.denominations if now < d.mint_until + GRACE_MS} - set(keyset.revoked)
    gone = keys_of(home).denominations.keys() & announced - needed
    for key in gone:
        (home / "keys/denomination" / key.hex()).unlink()
        point("bank.key.deleted")
    return len(gone)
