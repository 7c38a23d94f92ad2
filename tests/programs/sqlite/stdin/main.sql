CREATE TABLE lines(line TEXT);
.separator "\t" "\n"
.import /dev/stdin lines
SELECT line FROM lines;
