#!/bin/sh
# Installs the .deb in a fresh Debian, starts the proxy as its user, installs it again (an upgrade), removes and purges
# it: config/package/test-deb.sh DEB      (root; mmdebstrap)
set -eu
cd "$(dirname "$0")/../.."
. config/package/fresh.sh
if [ "${2:-}" = inside ]; then
    root=$1
    within() { chroot "$root" "$@"; }
    fail() { echo "FAILED: $*" >&2; exit 1; }
    within dpkg --install /tidegate.deb
    within dpkg --audit | grep . && fail "dpkg finds fault with the package"
    within dpkg --verify tidegate | grep . && fail "installed files differ"
    within tidegate check --strict --config /etc/tidegate/tidegate.yaml
    chroot --userspec=tidegate:tidegate "$root" tidegate run --config /etc/tidegate/tidegate.yaml >"$root/tmp/log" 2>&1 &
    answers http://127.0.0.1:9901/readyz || { cat "$root/tmp/log"; exit 1; }
    [ "$(within stat -c %U /proc/$!)" = tidegate ] || fail "the proxy does not run as its user"
    within tidegate status
    for file in /usr/share/man/man1/tidegate.1.gz /usr/share/bash-completion/completions/tidegate \
        /usr/share/zsh/vendor-completions/_tidegate /usr/share/fish/vendor_completions.d/tidegate.fish \
        /usr/share/tidegate/tidegate.schema.json /usr/lib/systemd/system/tidegate.service; do
        [ -s "$root$file" ] || fail "$file is missing"
    done
    echo "# mine" >> "$root/etc/tidegate/tidegate.yaml"
    within dpkg --install /tidegate.deb
    grep -q '^# mine' "$root/etc/tidegate/tidegate.yaml" || fail "an upgrade replaced the configuration"
    answers http://127.0.0.1:9901/livez
    kill -TERM $!
    wait $! || fail "the proxy did not end with 0"
    within dpkg --remove tidegate
    [ ! -e "$root/usr/bin/tidegate" ] || fail "a file is left after removal"
    [ -e "$root/etc/tidegate/tidegate.yaml" ] || fail "removal deleted the configuration"
    within dpkg --purge tidegate
    [ ! -e "$root/etc/tidegate" ] && [ ! -e "$root/var/lib/tidegate" ] || fail "a file is left after purge"
    ! grep -q '^tidegate:' "$root/etc/passwd" || fail "the user is left after purge"
    echo "OK: installed, started, upgraded, removed and purged"
    exit 0
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
fresh_debian "$root"
cp "$1" "$root/tidegate.deb"
mkdir -p "$root/proc"
alone sh -euc 'mount --bind /proc "$1/proc"; mknod -m 666 "$1/dev/null" c 1 3; mknod -m 444 "$1/dev/urandom" c 1 9; sh "$0" "$1" inside' "$0" "$root"
