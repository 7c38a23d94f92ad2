SELECT nobody_made_this FROM nowhere;
SELECT 42;
