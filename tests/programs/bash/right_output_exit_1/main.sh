echo 42
exit 1
