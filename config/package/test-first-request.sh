#!/bin/sh
# From the tarball to the first request in a fresh Debian, in at most 60 seconds:
#   config/package/test-first-request.sh TARBALL      (root; mmdebstrap)
set -eu
cd "$(dirname "$0")/../.."
. config/package/fresh.sh
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
fresh_debian "$root"
cp "$1" "$root/root/tidegate.tar.gz"
cat > "$root/root/first.sh" <<'INSIDE'
set -eu
cd /root
tar xzf tidegate.tar.gz
cd tidegate-*/
# The operator's application, for this test: another Tidegate that answers.
cat > app.yaml <<'APP'
admin: { address: off }
listeners: { web: { address: 127.0.0.1:9001, protocol: http, service: unused } }
services: { unused: { clusters: [unused] } }
clusters: { unused: { kind: idc, endpoints: [127.0.0.1:1], probe: { kind: none } } }
routes: [{ path_prefix: /, respond: { status: 200, body: "hello from the application\n" } }]
APP
./tidegate run --config app.yaml >app.log 2>&1 &
./tidegate init --backend idc=127.0.0.1:9001 --output tidegate.yaml
./tidegate run --config tidegate.yaml >tidegate.log 2>&1 &
until curl -sf http://127.0.0.1:8080/; do sleep 0.05; done
INSIDE
started=$(date +%s%N)
mkdir -p "$root/proc"; mknod -m 666 "$root/dev/null" c 1 3; mknod -m 444 "$root/dev/urandom" c 1 9
alone timeout 60 chroot "$root" sh /root/first.sh
took=$((($(date +%s%N) - started) / 1000000))
echo "OK: from the tarball to the first request in $took ms"
