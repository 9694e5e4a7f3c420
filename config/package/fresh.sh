# Functions for tests in a fresh Debian; read by the other scripts, as root.
# fresh_debian FOLDER: unpacks a minimal Debian there; the archive is made once, in target/package.
fresh_debian() {
    archive=target/package/bookworm.tar
    if [ ! -s "$archive" ]; then
        command -v mmdebstrap >/dev/null || { echo "mmdebstrap is missing: apt-get install mmdebstrap" >&2; exit 1; }
        mkdir -p target/package
        mmdebstrap --quiet --format=tar --variant=minbase --include=curl,ca-certificates bookworm "$archive.new" \
            "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
        mv "$archive.new" "$archive"
    fi
    tar -xf "$archive" -C "$1" --exclude=./dev/\*
}

# alone COMMAND...: runs it in namespaces of its own: loopback alone as network, own processes and mounts. All that it
# started ends with it.
alone() {
    unshare --net --mount --pid --fork --kill-child --mount-proc sh -euc 'ip link set lo up; "$@"' alone "$@"
}

# answers URL: waits until it answers with 200, at most 30 seconds.
answers() {
    for _try in $(seq 300); do
        [ "$(curl -s -o /dev/null -w '%{http_code}' --max-time 2 "$1")" = 200 ] && return 0
        sleep 0.1
    done
    echo "no 200 from $1 in 30 s" >&2
    return 1
}
