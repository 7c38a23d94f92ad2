ATTACH 'flood' AS flood;
PRAGMA flood.journal_mode = OFF;
CREATE TABLE flood.flood AS
WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number)
SELECT randomblob(100000) FROM number;
