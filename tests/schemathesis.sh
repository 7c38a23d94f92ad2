#!/usr/bin/env bash
# Schemathesis, against a daemon that this starts: the API does what its description says, whatever
# it is sent. About two minutes, the same requests each time.
set -euo pipefail
cd "$(dirname "$0")/.."

version=4.32.5
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
venv=$target/schemathesis-$version
daemon=$target/debug/braindrill

if [ ! -x "$venv/bin/schemathesis" ]; then
    echo "installing schemathesis $version into $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
fi
[ -x "$daemon" ] || cargo build --locked

work=$(mktemp -d)
"$daemon" serve --listen 127.0.0.1:0 --data-dir "$work/data" >"$work/out" 2>"$work/log" &
pid=$!
finish() {
    status=$?
    kill "$pid" 2>/dev/null || true
    wait "$pid" || status=1
    if [ "$status" -ne 0 ]; then
        echo "the daemon's warnings and errors:"
        grep -v '"level":"INFO"' "$work/log" | tail -20
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

for _ in $(seq 300); do
    if grep -q 'listens on' "$work/out"; then break; fi
    kill -0 "$pid" 2>/dev/null || { cat "$work/log"; exit 1; }
    sleep 0.1
done
address=$(sed -n 's/.*listens on //p' "$work/out")

# In a folder of its own: it keeps what it found between runs, and they are to be alike.
tests=$PWD/tests
cd "$work"
PYTHONPATH=$tests "$venv/bin/schemathesis" --config-file "$tests/schemathesis.toml" \
    run "$address/openapi.json" "$@"
