puts 42
exit 1
