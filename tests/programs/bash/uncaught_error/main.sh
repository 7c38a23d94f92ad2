set -u
echo "$nobody_sets_this"
