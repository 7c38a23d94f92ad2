-- What the addresses are made from by which nodes fetch requests: 32 random bytes, filled in when the
-- file is next opened. Whoever reads them can make such addresses, so they are no less private than
-- the requests themselves.
ALTER TABLE instance ADD COLUMN secret BLOB CHECK (length(secret) = 32);
