#!/bin/sh
# Runs the image's root file system without a container engine, as the image does: not root, no capability, read-only,
# a network of its own: docker/test-rootfs.sh ROOTFS.tar.gz      (root)
set -eu
cd "$(dirname "$0")/.."
. config/package/fresh.sh
if [ "${2:-}" = inside ]; then
    root=$1
    mount --bind "$root" "$root"
    mount -o remount,bind,ro "$root"
    # Replaces the shell that calls it, so that a process in the background is the program's.
    become() {
        exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid \
            chroot --userspec=65532:65532 "$root" /tidegate "$@"
    }
    run() { (become "$@"); }
    export TIDEGATE_CONFIG=/etc/tidegate/tidegate.yaml
    if touch "$root/etc/x" 2>/dev/null; then echo "FAILED: the root is writable" >&2; exit 1; fi
    run check --strict
    if run healthcheck --config "$TIDEGATE_CONFIG" 2>/dev/null; then
        echo "FAILED: healthy before the start" >&2
        exit 1
    fi
    become run &
    proxy=$!
    answers http://127.0.0.1:9902/readyz
    run healthcheck --config "$TIDEGATE_CONFIG"
    curl -sf -H 'host: scrape.example.com' http://127.0.0.1:9902/metrics | grep -q '^tidegate_build_info'
    [ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9902/api/v1/config)" = 404 ]
    grep -q '^Uid:	65532' "/proc/$proxy/status"
    grep -q '^CapEff:	0000000000000000' "/proc/$proxy/status"
    [ -s "$root/etc/ssl/certs/ca-certificates.crt" ] && [ -s "$root/usr/share/zoneinfo/Europe/Berlin" ]
    kill -TERM "$proxy"
    wait "$proxy"
    echo "OK: runs as user 65532, without capabilities, on a read-only root; healthcheck and metrics answer"
    exit 0
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
tar -xzf "$1" -C "$root"
chmod 755 "$root"
alone sh "$0" "$root" inside
