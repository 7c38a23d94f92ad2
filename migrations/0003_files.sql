-- Files of the work directory that a submission asked for, piece by piece. What they are called and how many
-- bytes they have is in its outcome.
CREATE TABLE files (
    submission INTEGER NOT NULL REFERENCES submissions (pk) ON DELETE CASCADE,
    attempt    INTEGER NOT NULL CHECK (attempt >= 1),
    seq        INTEGER NOT NULL CHECK (seq >= 0),   -- the runner's, among those of the attempt's events
    file       INTEGER NOT NULL CHECK (file >= 0),  -- which of the outcome's `files`
    data       BLOB NOT NULL,
    PRIMARY KEY (submission, attempt, seq)
) STRICT;
