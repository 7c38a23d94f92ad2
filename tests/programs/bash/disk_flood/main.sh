while head -c 100000 /dev/zero >>flood; do :; done
exit 1
