#!/bin/sh
# Builds the static, stripped binary and its separate debug file:
#   config/package/build.sh OUT [FEATURES]
# Static with glibc: the C library is the one that the tests ran with, and its malloc and memcpy are faster than musl's.
# The usual objection is the name service, which may load plugins at run time: the proxy resolves names by itself, and
# the verbs that look up the name of `--admin` need files and DNS alone, which are part of glibc since 2.34.
# RUST_TARGET selects another target, such as x86_64-unknown-linux-musl.
set -eu
out=$1
features=${2:-http3,k8s,nats,otel,acme,compression}
target=${RUST_TARGET:-$(uname -m)-unknown-linux-gnu}
folder=${CARGO_TARGET_DIR:-target/dist}

# rustc links with its own lld on x86-64 alone; other linkers neither fold identical functions nor pack relocations.
flags="'-C', 'target-feature=+crt-static'"
case $target in
    x86_64-*-gnu) flags="$flags, '-C', 'link-arg=-Wl,--icf=all', '-C', 'link-arg=-Wl,-z,pack-relative-relocs'" ;;
esac
${CARGO:-cargo} build --locked --profile dist --features "$features" --bin tidegate \
    --target "$target" --target-dir "$folder" --config "target.$target.rustflags=[$flags]"
mkdir -p "$out"
built=$folder/$target/dist/tidegate
objcopy --only-keep-debug --compress-debug-sections "$built" "$out/tidegate.debug"
objcopy --strip-all "$built" "$out/tidegate"
(cd "$out" && objcopy --add-gnu-debuglink=tidegate.debug tidegate)
chmod 755 "$out/tidegate"
chmod 644 "$out/tidegate.debug"
