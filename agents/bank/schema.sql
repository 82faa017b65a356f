-- The bank's books. Amounts are signed minor units, times milliseconds since 1970.
-- What happened is only ever inserted; the only rows that change are unclaimed accounts and folded balances.

CREATE TABLE account (
    number INTEGER PRIMARY KEY CHECK (number > 1000),
    kind TEXT NOT NULL CHECK (kind IN ('client', 'merchant')),
    name TEXT NOT NULL,
    title TEXT NOT NULL,
    currency TEXT NOT NULL,
    key BLOB UNIQUE CHECK (length(key) = 32),
    invitation BLOB UNIQUE CHECK (length(invitation) = 32),
    UNIQUE (kind, name),
    CHECK (key IS NOT NULL OR invitation IS NOT NULL)
) STRICT;

CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    request_id BLOB,
    at INTEGER NOT NULL
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

CREATE UNIQUE INDEX payment_accepted ON payment (account, payment_id) WHERE accepted;

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
