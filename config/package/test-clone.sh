#!/bin/sh
# From a clone to the end of the demo in a fresh Debian, with the times of both: config/package/test-clone.sh [URL]
# (root; mmdebstrap; the network: Debian's mirror, rustup, crates.io). Without URL, clones this checkout.
set -eu
cd "$(dirname "$0")/../.."
. config/package/fresh.sh
url=${1:-}
root=$(mktemp -d)
trap 'umount "$root/proc" 2>/dev/null || true; rm -rf "$root"' EXIT
fresh_debian "$root"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 444 "$root/dev/urandom" c 1 9
mount -t proc proc "$root/proc"
cp /etc/resolv.conf "$root/etc/resolv.conf"
[ -n "$url" ] || { git clone -q --bare . "$root/root/source.git"; url=/root/source.git; }
chroot "$root" sh -euc '
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends git make gcc libc6-dev >/dev/null
    curl -sSf https://sh.rustup.rs | sh -s -- -q -y --profile minimal >/dev/null
    . /root/.cargo/env
    started=$(date +%s)
    git clone -q "$0" /root/tidegate
    cd /root/tidegate
    make demo
    echo "OK: from the clone to the verdict of the demo in $(($(date +%s) - started)) s"' "$url"
