-- How the bytes of an event of output alternate with those of the one behind it, which is of the other
-- stream of the same run: so many of this one, then so many of that, and so on in turn, each length in
-- LEB128. Absent where all of this one comes first.
ALTER TABLE events ADD COLUMN turns BLOB;
