#!/bin/sh
# Builds the static, stripped binary and its separate debug file:
#   config/package/build.sh OUT [FEATURES]
# Static with glibc: the C library is the one that the build machine tests with, and its malloc and memcpy are faster
# than musl's. The usual objection is the name service (getaddrinfo loads plugins at run time); Tidegate resolves names
# by itself and never calls it. RUST_TARGET selects another target, such as x86_64-unknown-linux-musl.
set -eu
out=$1
features=${2:-http3,k8s,nats,otel}
target=${RUST_TARGET:-$(uname -m)-unknown-linux-gnu}
folder=${CARGO_TARGET_DIR:-target/dist}

${CARGO:-cargo} build --locked --profile dist --features "$features" --bin tidegate \
    --target "$target" --target-dir "$folder" \
    --config "target.$target.rustflags=['-C', 'target-feature=+crt-static', '-C', 'link-arg=-Wl,--icf=all']"
mkdir -p "$out"
built=$folder/$target/dist/tidegate
objcopy --only-keep-debug --compress-debug-sections "$built" "$out/tidegate.debug"
objcopy --strip-all "$built" "$out/tidegate"
(cd "$out" && objcopy --add-gnu-debuglink=tidegate.debug tidegate)
chmod 755 "$out/tidegate"
chmod 644 "$out/tidegate.debug"
