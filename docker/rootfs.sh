#!/bin/sh
# The root file system of the image: docker/rootfs.sh BINARY OUT
# The program, the system's certificate authorities, time zones, one user, one configuration; no shell.
set -eu
bin=$1
out=$2
here=$(dirname "$0")
authorities=/etc/ssl/certs/ca-certificates.crt
[ -s "$authorities" ] || { echo "$authorities is missing: apt-get install ca-certificates" >&2; exit 1; }
[ -d /usr/share/zoneinfo ] || { echo "/usr/share/zoneinfo is missing: apt-get install tzdata" >&2; exit 1; }
umask 022
install -Dm755 "$bin" "$out/tidegate"
install -Dm644 "$authorities" "$out/etc/ssl/certs/ca-certificates.crt"
install -Dm644 "$here/tidegate.yaml" "$out/etc/tidegate/tidegate.yaml"
mkdir -p "$out/usr/share/zoneinfo" "$out/var/lib/tidegate"
cp -a /usr/share/zoneinfo/. "$out/usr/share/zoneinfo/"
rm -rf "$out/usr/share/zoneinfo/posix" "$out/usr/share/zoneinfo/right" "$out/usr/share/zoneinfo/localtime"
echo "tidegate:x:65532:65532::/var/lib/tidegate:/nonexistent" > "$out/etc/passwd"
echo "tidegate:x:65532:" > "$out/etc/group"
[ "$(id -u)" != 0 ] || chown 65532:65532 "$out/var/lib/tidegate"
