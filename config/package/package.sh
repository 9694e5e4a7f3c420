#!/bin/sh
# Makes the packages of a built binary: config/package/package.sh FOLDER
# FOLDER has `tidegate` and `tidegate.debug` (config/package/build.sh). Adds the .deb, the tarball, and the root file
# system of the container image. Times come from SOURCE_DATE_EPOCH, so that the same binary gives the same packages.
set -eu
cd "$(dirname "$0")/../.."
out=$(cd "$1" && pwd)
bin=$out/tidegate
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
machine=$(uname -m)
case $machine in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$machine ;; esac
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

# The files of a package below $1, as they lie in the system.
files() {
    root=$1
    install -Dm755 "$bin" "$root/usr/bin/tidegate"
    install -Dm644 config/package/tidegate.service "$root/usr/lib/systemd/system/tidegate.service"
    install -Dm644 config/package/tidegate.logrotate "$root/etc/logrotate.d/tidegate"
    install -d "$root/etc/tidegate" "$root/usr/share/tidegate" "$root/usr/share/man/man1"
    "$bin" init | sed 's|\$schema=tidegate.schema.json|$schema=/usr/share/tidegate/tidegate.schema.json|' \
        | sed 's|--config tidegate.yaml|--config /etc/tidegate/tidegate.yaml|g' > "$root/etc/tidegate/tidegate.yaml"
    "$bin" schema > "$root/usr/share/tidegate/tidegate.schema.json"
    "$bin" man | gzip -9n > "$root/usr/share/man/man1/tidegate.1.gz"
    install -d "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions" \
        "$root/usr/share/fish/vendor_completions.d" "$root/usr/share/doc/tidegate"
    "$bin" completions bash > "$root/usr/share/bash-completion/completions/tidegate"
    "$bin" completions zsh > "$root/usr/share/zsh/vendor-completions/_tidegate"
    "$bin" completions fish > "$root/usr/share/fish/vendor_completions.d/tidegate.fish"
    install -m644 config/reference.yaml LICENSE README.md "$root/usr/share/doc/tidegate/"
    gzip -9n < CHANGELOG.md > "$root/usr/share/doc/tidegate/changelog.gz"
}

deb() {
    root=$work/deb
    files "$root"
    mv "$root/usr/share/doc/tidegate/LICENSE" "$root/usr/share/doc/tidegate/copyright"
    install -d "$root/DEBIAN"
    for script in postinst prerm postrm; do
        install -m755 "config/package/$script" "$root/DEBIAN/$script"
    done
    printf '%s\n' /etc/tidegate/tidegate.yaml /etc/logrotate.d/tidegate > "$root/DEBIAN/conffiles"
    cat > "$root/DEBIAN/control" <<CONTROL
Package: tidegate
Version: $version
Architecture: $arch
Maintainer: The Tidegate project <tidegate@localhost>
Installed-Size: $(du -sk "$root" | cut -f1)
Depends: passwd
Recommends: ca-certificates, logrotate
Section: net
Priority: optional
Description: latency-aware layer-4/7 proxy for hybrid clouds
 Sends each request to the nearest healthy cluster, spills the excess of a data
 centre to the cloud, fails over and returns, and keeps sensitive data where it
 may be.
CONTROL
    (cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
    dpkg-deb --root-owner-group --build "$root" "$out/tidegate_${version}_$arch.deb" >/dev/null
}

tarball() {
    name=tidegate-$version-linux-$arch
    files "$work/tree"
    install -d "$work/$name"
    install -m755 "$bin" "$work/$name/tidegate"
    cp README.md LICENSE CHANGELOG.md config/reference.yaml config/minimal.yaml "$work/$name/"
    cp -r "$work/tree/usr/share" "$work/$name/share"
    rm -r "$work/$name/share/doc"
    install -d "$work/$name/systemd"
    cp config/package/tidegate.service config/package/tidegate.logrotate "$work/$name/systemd/"
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$work" -cf - "$name" \
        | gzip -9n > "$out/$name.tar.gz"
}

if command -v dpkg-deb >/dev/null; then deb; else echo "dpkg-deb is missing: no .deb is made" >&2; fi
tarball
sh docker/rootfs.sh "$bin" "$work/rootfs"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$work/rootfs" -cf - . \
    | gzip -9n > "$out/tidegate-$version-rootfs-$arch.tar.gz"
gzip -9nc "$out/tidegate.debug" > "$out/tidegate-$version-linux-$arch.debug.gz"
cd "$out"
sha256sum -- *.deb *.tar.gz *.debug.gz *.cdx.json 2>/dev/null > SHA256SUMS || true
