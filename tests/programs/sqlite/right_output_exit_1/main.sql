SELECT 42;
.exit 1
