#!/bin/sh
# A stranger's first run in a fresh Debian: from a clone to the verdict of the demo, in at most 5 minutes, and from
# another clone to a green `make test`. Prints the times: config/package/test-clone.sh [demo|test|all] [URL]
# (root; mmdebstrap; the network: Debian's mirror, rustup, crates.io, and for the tests PyPI and npm). Without URL,
# clones this checkout. TOOLCHAIN=FOLDER, such as `rustc --print sysroot`, uses that Rust instead of rustup's.
set -eu
cd "$(dirname "$0")/../.."
. config/package/fresh.sh
DEMO_S_MAX=${DEMO_S_MAX:-300}
if [ "${1:-}" = inside ]; then
    root=$2
    what=$3
    url=$4
    # The mounts end with their namespace.
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    within() { chroot "$root" /usr/bin/env PATH=/root/.cargo/bin:/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
    within apt-get update -qq
    within apt-get install -y -qq --no-install-recommends git make >/dev/null
    [ -e "$root/opt/rust" ] || within sh -euc 'curl -sSf https://sh.rustup.rs | sh -s -- -q -y --profile minimal >/dev/null'
    # From a clone to the end of `make TARGET`: its seconds are in $took.
    play() {
        rm -rf "$root/root/tidegate"
        started=$(date +%s)
        within git clone -q "$url" /root/tidegate
        within make -C /root/tidegate "$1"
        took=$(($(date +%s) - started))
    }
    if [ "$what" != test ]; then
        play demo
        [ "$took" -le "$DEMO_S_MAX" ] || { echo "FAILED: from the clone to the verdict of the demo in $took s, at most $DEMO_S_MAX" >&2; exit 1; }
        echo "OK: from the clone to the verdict of the demo in $took s (at most $DEMO_S_MAX)"
    fi
    if [ "$what" != demo ]; then
        play test
        echo "OK: from the clone to a green \`make test\` in $took s"
    fi
    exit 0
fi
what=${1:-all}
url=${2:-}
case $what in demo | test | all) ;; *) echo "$what: demo, test or all" >&2; exit 2 ;; esac
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
fresh_debian "$root"
cp /etc/resolv.conf "$root/etc/resolv.conf"
printf '127.0.0.1 localhost\n::1 localhost\n' > "$root/etc/hosts"
# The authorities of this machine: behind a proxy they are more than Debian's.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
[ -z "${TOOLCHAIN:-}" ] || { mkdir -p "$root/opt/rust"; cp -a "$TOOLCHAIN/." "$root/opt/rust/"; }
[ -n "$url" ] || { git clone -q --bare . "$root/root/source.git"; url=/root/source.git; }
unset CARGO CARGO_HOME CARGO_TARGET_DIR RUSTUP_HOME RUSTUP_TOOLCHAIN RUSTFLAGS
unshare --mount --pid --fork --kill-child --mount-proc sh config/package/test-clone.sh inside "$root" "$what" "$url"
