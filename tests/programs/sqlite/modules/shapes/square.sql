CREATE TABLE square(side INTEGER, area INTEGER AS (side * side));
INSERT INTO square(side) VALUES (7);
