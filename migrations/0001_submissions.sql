-- The first schema. Times are milliseconds since 1970-01-01T00:00:00Z. See docs/states.md.

-- One row: the name of this installation, which it gives to everything it makes elsewhere.
CREATE TABLE instance (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id  TEXT NOT NULL CHECK (length(id) = 8 AND id NOT GLOB '*[^0-9a-f]*')
) STRICT;

CREATE TABLE submissions (
    -- Rises with age and is never given twice, so that a late word on a removed submission
    -- cannot be taken for one on another.
    pk            INTEGER PRIMARY KEY AUTOINCREMENT,
    id            BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    owner         TEXT NOT NULL,
    language      TEXT NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('queued', 'dispatching', 'running', 'finished')),
    priority      INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 100),
    attempt       INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    lost_attempts INTEGER NOT NULL DEFAULT 0 CHECK (lost_attempts >= 0),
    restarts      INTEGER NOT NULL DEFAULT 0 CHECK (restarts >= 0),
    created_ms    INTEGER NOT NULL,
    queued_ms     INTEGER NOT NULL,                 -- since when it waits for its next attempt
    not_before_ms INTEGER NOT NULL DEFAULT 0,       -- backoff; 0: ready to be claimed
    tries         INTEGER NOT NULL DEFAULT 0,       -- starts in a row that found the backend away
    lease         INTEGER,
    started_ms    INTEGER,
    finished_ms   INTEGER,
    deleted_ms    INTEGER,
    verdict       TEXT,
    waiting_for   TEXT,
    placement     TEXT,
    outcome       TEXT,                             -- last: the long one

    CHECK (CASE state
        WHEN 'queued'      THEN lease IS NULL AND placement IS NULL
        WHEN 'dispatching' THEN lease IS NOT NULL AND placement IS NULL AND attempt >= 1
        WHEN 'running'     THEN lease IS NOT NULL AND placement IS NOT NULL AND attempt >= 1
        ELSE lease IS NULL AND waiting_for IS NULL
    END),
    CHECK ((state = 'finished') = (finished_ms IS NOT NULL)),
    CHECK ((state = 'finished') = (outcome IS NOT NULL)),
    CHECK ((state = 'finished') = (verdict IS NOT NULL)),
    CHECK (state = 'queued' OR not_before_ms = 0),
    CHECK (deleted_ms IS NULL OR state = 'finished')
) STRICT;

-- Claiming: within an owner by priority, then age; only what is ready is in it.
CREATE INDEX submissions_ready ON submissions (owner, priority DESC, pk)
    WHERE state = 'queued' AND not_before_ms = 0;
CREATE INDEX submissions_backoff ON submissions (not_before_ms)
    WHERE state = 'queued' AND not_before_ms > 0;
CREATE INDEX submissions_waiting ON submissions (queued_ms) WHERE state = 'queued';
-- Listing, newest first.
CREATE INDEX submissions_by_owner ON submissions (owner, id);
CREATE INDEX submissions_by_language ON submissions (owner, language, id);
CREATE INDEX submissions_by_verdict ON submissions (owner, verdict, id) WHERE verdict IS NOT NULL;
CREATE INDEX submissions_open ON submissions (owner, state, id) WHERE finished_ms IS NULL;
-- Recovery at start.
CREATE INDEX submissions_in_flight ON submissions (pk) WHERE lease IS NOT NULL;
CREATE INDEX submissions_deleted ON submissions (pk) WHERE deleted_ms IS NOT NULL;

-- Apart from the submission, whose row is written again with every step.
CREATE TABLE requests (
    submission INTEGER PRIMARY KEY REFERENCES submissions (pk) ON DELETE CASCADE,
    request    BLOB NOT NULL                        -- JSON, in zstd when that is shorter
) STRICT;

-- What happened, numbered from 1 without reset. Output of programs is kept here and nowhere else.
CREATE TABLE events (
    pk         INTEGER PRIMARY KEY,
    submission INTEGER NOT NULL REFERENCES submissions (pk) ON DELETE CASCADE,
    n          INTEGER NOT NULL CHECK (n >= 1),
    attempt    INTEGER NOT NULL CHECK (attempt >= 0),
    seq        INTEGER CHECK (seq >= 0),            -- the runner's; absent for what we say ourselves
    last_seq   INTEGER CHECK (last_seq >= seq),     -- chunks of one stream are stored together
    at_ms      INTEGER NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN
                   ('state', 'started', 'compiled', 'stdout', 'stderr', 'run_finished', 'finished')),
    run        INTEGER CHECK (run >= 0),
    data       BLOB,                                -- bytes of output, else JSON
    UNIQUE (submission, n),
    UNIQUE (submission, attempt, seq),
    CHECK ((kind IN ('stdout', 'stderr', 'run_finished')) = (run IS NOT NULL)),
    CHECK ((seq IS NULL) = (last_seq IS NULL))
) STRICT;

-- Places where something of an attempt may still be. A row outlives its submission's end until
-- the backend has confirmed that nothing is left.
CREATE TABLE placements (
    submission INTEGER NOT NULL REFERENCES submissions (pk) ON DELETE RESTRICT,
    attempt    INTEGER NOT NULL CHECK (attempt >= 1),
    placement  TEXT,                                -- absent: not known whether it was placed
    PRIMARY KEY (submission, attempt)
) STRICT, WITHOUT ROWID;

-- Why attempts were lost.
CREATE TABLE attempt_losses (
    submission INTEGER NOT NULL REFERENCES submissions (pk) ON DELETE CASCADE,
    attempt    INTEGER NOT NULL CHECK (attempt >= 1),
    at_ms      INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    PRIMARY KEY (submission, attempt)
) STRICT, WITHOUT ROWID;

-- Live as long as their submission, and 24 h past its removal.
CREATE TABLE idempotency_keys (
    owner      TEXT NOT NULL,
    key        TEXT NOT NULL,
    hash       BLOB NOT NULL CHECK (length(hash) = 32),
    submission BLOB NOT NULL CHECK (length(submission) = 16),
    deleted_ms INTEGER,
    PRIMARY KEY (owner, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_submission ON idempotency_keys (submission);
CREATE INDEX idempotency_keys_deleted ON idempotency_keys (deleted_ms)
    WHERE deleted_ms IS NOT NULL;

-- Counters, kept by the triggers below alone, so that no count walks the queue.
CREATE TABLE counts (
    state TEXT PRIMARY KEY,
    n     INTEGER NOT NULL CHECK (n >= 0)
) STRICT, WITHOUT ROWID;
INSERT INTO counts VALUES ('queued', 0), ('dispatching', 0), ('running', 0), ('finished', 0);

CREATE TABLE owners (
    owner      TEXT PRIMARY KEY,
    ready      INTEGER NOT NULL CHECK (ready >= 0),
    in_flight  INTEGER NOT NULL CHECK (in_flight >= 0),
    last_claim INTEGER NOT NULL DEFAULT 0           -- a running number, not a time
) STRICT, WITHOUT ROWID;
CREATE INDEX owners_next ON owners (in_flight, last_claim) WHERE ready > 0;
CREATE INDEX owners_last_claim ON owners (last_claim);

CREATE TRIGGER submissions_inserted AFTER INSERT ON submissions BEGIN
    UPDATE counts SET n = n + 1 WHERE state = NEW.state;
    INSERT INTO owners (owner, ready, in_flight) VALUES (NEW.owner, 1, 0)
        ON CONFLICT (owner) DO UPDATE SET ready = ready + 1;
END;

CREATE TRIGGER submissions_moved AFTER UPDATE OF state, not_before_ms ON submissions BEGIN
    UPDATE counts SET n = n - 1 WHERE state = OLD.state;
    UPDATE counts SET n = n + 1 WHERE state = NEW.state;
    UPDATE owners SET
        ready = ready - (OLD.state = 'queued' AND OLD.not_before_ms = 0)
                      + (NEW.state = 'queued' AND NEW.not_before_ms = 0),
        in_flight = in_flight - (OLD.state IN ('dispatching', 'running'))
                              + (NEW.state IN ('dispatching', 'running')),
        last_claim = CASE WHEN NEW.state = 'dispatching'
            THEN (SELECT max(last_claim) + 1 FROM owners) ELSE last_claim END
        WHERE owner = NEW.owner;
END;

CREATE TRIGGER submissions_hidden AFTER UPDATE OF deleted_ms ON submissions
WHEN OLD.deleted_ms IS NULL AND NEW.deleted_ms IS NOT NULL BEGIN
    UPDATE counts SET n = n - 1 WHERE state = NEW.state;
END;

CREATE TRIGGER submissions_finished_for_good BEFORE UPDATE OF state ON submissions
WHEN OLD.state = 'finished' BEGIN
    SELECT RAISE(ABORT, 'a finished submission cannot change its state');
END;
