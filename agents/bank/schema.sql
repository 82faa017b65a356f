-- The bank's books. Amounts are signed minor units, times milliseconds since 1970.
-- What happened is only ever inserted; the rows that change are accounts, folded balances, destinations of payouts
-- and the mark on a withdrawal that it is settled.

CREATE TABLE account (
    number INTEGER PRIMARY KEY CHECK (number > 1000),
    kind TEXT NOT NULL CHECK (kind IN ('client', 'merchant')),
    name TEXT NOT NULL,
    title TEXT NOT NULL,
    currency TEXT NOT NULL,
    key BLOB UNIQUE CHECK (length(key) = 32),
    invitation BLOB UNIQUE CHECK (length(invitation) = 32),
    generation INTEGER NOT NULL DEFAULT 0 CHECK (generation >= 0),
    UNIQUE (kind, name),
    CHECK (key IS NOT NULL OR invitation IS NOT NULL)
) STRICT;

CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    request_id BLOB,
    at INTEGER NOT NULL
) STRICT;

-- A hash over all that a posting wrote, chained to the one before: what is changed, lost or added later breaks it.
CREATE TABLE seal (
    journal INTEGER PRIMARY KEY REFERENCES journal,
    digest BLOB NOT NULL CHECK (length(digest) = 32)
) STRICT;

CREATE TABLE entry (
    ledger TEXT NOT NULL,
    journal INTEGER NOT NULL REFERENCES journal,
    amount INTEGER NOT NULL,
    PRIMARY KEY (ledger, journal)
) STRICT, WITHOUT ROWID;

-- The sum of a ledger's entries through a journal id, so that a balance need not read them all.
CREATE TABLE balance (
    ledger TEXT PRIMARY KEY,
    through INTEGER NOT NULL REFERENCES journal,
    amount INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Keys that begin with the denomination keep the insert rate flat: only the live series must be in the cache.
CREATE TABLE issued (
    denomination BLOB NOT NULL CHECK (length(denomination) = 32),
    blinded_hash BLOB NOT NULL CHECK (length(blinded_hash) = 32),
    journal INTEGER NOT NULL REFERENCES journal,
    PRIMARY KEY (denomination, blinded_hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE spent (
    denomination BLOB NOT NULL CHECK (length(denomination) = 32),
    serial BLOB NOT NULL CHECK (length(serial) = 32),
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    spend BLOB NOT NULL CHECK (length(spend) = 64),
    journal INTEGER NOT NULL REFERENCES journal,
    PRIMARY KEY (denomination, serial)
) STRICT, WITHOUT ROWID;

CREATE TABLE payment (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    account INTEGER NOT NULL REFERENCES account,
    payment_id BLOB NOT NULL CHECK (length(payment_id) = 16),
    accepted INTEGER NOT NULL CHECK (accepted IN (0, 1)),
    verdict BLOB NOT NULL,
    info BLOB NOT NULL,
    commission INTEGER NOT NULL CHECK (commission >= 0),
    journal INTEGER NOT NULL REFERENCES journal
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX payment_accepted ON payment (payment_id, account) WHERE accepted;

CREATE TABLE answer (
    request_id BLOB PRIMARY KEY CHECK (length(request_id) = 16),
    request_hash BLOB NOT NULL CHECK (length(request_hash) = 32),
    answer BLOB NOT NULL,
    journal INTEGER NOT NULL REFERENCES journal
) STRICT;

CREATE TABLE funding (
    reference TEXT PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account,
    amount INTEGER NOT NULL CHECK (amount > 0),
    journal INTEGER NOT NULL REFERENCES journal
) STRICT;

-- Numbers count an account's withdrawals from 1. A settled one has no coin left that recovery could bring back.
CREATE TABLE withdrawal (
    account INTEGER NOT NULL REFERENCES account,
    number INTEGER NOT NULL CHECK (number > 0),
    request_id BLOB NOT NULL CHECK (length(request_id) = 16),
    amount INTEGER NOT NULL CHECK (amount > 0),
    settled INTEGER NOT NULL DEFAULT 0 CHECK (settled IN (0, 1)),
    journal INTEGER NOT NULL REFERENCES journal,
    PRIMARY KEY (account, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX withdrawal_unsettled ON withdrawal (account, request_id) WHERE NOT settled;

CREATE TABLE redemption (
    journal INTEGER PRIMARY KEY REFERENCES journal,
    account INTEGER NOT NULL REFERENCES account,
    amount INTEGER NOT NULL CHECK (amount > 0)
) STRICT;

CREATE INDEX redemption_account ON redemption (account);

-- Where a merchant's payouts go, until they are exported.
CREATE TABLE destination (
    account INTEGER PRIMARY KEY REFERENCES account,
    routing TEXT NOT NULL,
    number TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('checking', 'savings')),
    holder TEXT NOT NULL
) STRICT;

CREATE TABLE payout (
    number INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account,
    amount INTEGER NOT NULL CHECK (amount > 0),
    commission INTEGER NOT NULL CHECK (commission >= 0),
    journal INTEGER NOT NULL REFERENCES journal
) STRICT;

CREATE INDEX payout_account ON payout (account);

CREATE TABLE ach_file (
    number INTEGER PRIMARY KEY,
    data BLOB NOT NULL,
    at INTEGER NOT NULL
) STRICT;

-- That a payout is in a file, with the destination that the file says.
CREATE TABLE export (
    payout INTEGER PRIMARY KEY REFERENCES payout,
    file INTEGER NOT NULL REFERENCES ach_file,
    routing TEXT NOT NULL,
    number TEXT NOT NULL,
    kind TEXT NOT NULL,
    holder TEXT NOT NULL
) STRICT;

CREATE TABLE settlement (
    payout INTEGER PRIMARY KEY REFERENCES export,
    journal INTEGER NOT NULL REFERENCES journal
) STRICT;

CREATE TABLE payout_return (
    payout INTEGER PRIMARY KEY REFERENCES export,
    reason TEXT NOT NULL CHECK (length(reason) <= 120),
    journal INTEGER NOT NULL REFERENCES journal
) STRICT;

-- Until when the books' time may have been told; the next process begins no earlier.
CREATE TABLE lease (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    until INTEGER NOT NULL
) STRICT;

INSERT INTO lease VALUES (1, 0);

CREATE TABLE keyset (
    number INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;
