CREATE TABLE lines(line TEXT);
.separator "\x01" "\n"
.import /dev/stdin lines
SELECT line FROM lines;
