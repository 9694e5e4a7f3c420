#!/bin/sh
# Prints the size of a binary and the time from its start to readiness with a small configuration; fails above the
# limits: config/package/measure.sh BINARY. The aim of 20 MB is missed, see docs/performance.md; the limit keeps what
# there is.
set -eu
bin=$(realpath "$1")
SIZE_AIM=20000000
SIZE_MAX=24000000
READY_MS_MAX=${READY_MS_MAX:-100}
size=$(stat -c %s "$bin")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/tidegate.yaml" <<'CONFIG'
admin: { address: "unix:admin.sock" }
access_log: { format: off }
listeners: { web: { address: "unix:web.sock", protocol: http, service: app } }
services: { app: { clusters: [idc] } }
clusters: { idc: { kind: idc, endpoints: [127.0.0.1:9001], probe: { kind: none } } }
CONFIG
# The best of five: other processes only add to it.
best=999999
for _run in 1 2 3 4 5; do
    started=$(date +%s%N)
    "$bin" run --config "$folder/tidegate.yaml" >/dev/null 2>"$folder/log" &
    proxy=$!
    until "$bin" healthcheck --admin "unix:$folder/admin.sock" 2>/dev/null; do
        kill -0 $proxy 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
    done
    took=$((($(date +%s%N) - started) / 1000000))
    kill -TERM $proxy
    wait $proxy || true
    [ "$took" -ge "$best" ] || best=$took
done
echo "size $size bytes (aim $SIZE_AIM, at most $SIZE_MAX), ready after $best ms (at most $READY_MS_MAX)"
[ "$size" -le $SIZE_MAX ] && [ "$best" -le "$READY_MS_MAX" ]
