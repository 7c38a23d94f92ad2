.read shapes/square.sql
SELECT area FROM square WHERE side = 7;
