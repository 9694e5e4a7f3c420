#!/bin/sh
# Runs the end-to-end tests, four at a time; those that failed run once more, alone. They wait in real time for processes
# that share the processors with three other tests, and a pause of the machine can fail one of 440. More than three
# failures are no coincidence, and neither is one that repeats.
# Usage: run.sh CARGO [FILTER...]
set -u
cargo=$1
shift
tests() {
    $cargo test --locked --all-features --no-fail-fast --test e2e -- "$@"
}

mkdir -p target
log=target/e2e.log
{ tests --test-threads=4 "$@"; echo "exit $?"; } 2>&1 | tee "$log"
[ "$(tail -n 1 "$log")" = "exit 0" ] && exit 0

# The names in the summary: the lines after the last `failures:`.
failed=$(awk '/^failures:$/ { names = ""; next } /^    [a-z0-9_:]+$/ { names = names $1 "\n" } END { printf "%s", names }' "$log")
count=$(printf '%s' "$failed" | grep -c .)
if [ "$count" -eq 0 ] || [ "$count" -gt 3 ]; then
    exit 1
fi
echo "Failed beside other tests, now alone:" $failed
# shellcheck disable=SC2086 # One argument for each name.
tests --test-threads=1 --exact $failed
