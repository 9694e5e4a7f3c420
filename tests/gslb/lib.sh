# Shared by the scripts of this folder: network namespaces, waiting with a deadline, and the end of all processes.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=$(realpath "${1:-target/debug/tidegate}")
configs=$(realpath config/gslb)
work=$(mktemp -d)
spaces=()
pids=()

finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    for space in "${spaces[@]}"; do ip netns del "$space" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT

need() {
    for tool in "$@"; do
        command -v "$tool" >/dev/null || { echo "$tool is missing: apt install iproute2 curl keepalived exabgp bird2" >&2; exit 2; }
    done
    [ "$(id -u)" = 0 ] || { echo "network namespaces need root" >&2; exit 2; }
}

# space NAME: a namespace with loopback up.
space() {
    ip netns add "$1"
    spaces+=("$1")
    ip -n "$1" link set lo up
}

# start SPACE LOG COMMAND...: a process in a namespace.
start() {
    local space=$1 log=$2
    shift 2
    ip netns exec "$space" "$@" >"$work/$log.log" 2>&1 &
    pids+=($!)
}

# until_true SECONDS WHAT COMMAND...: waits until the command succeeds, and prints how long that took.
until_true() {
    local limit=$1 what=$2 begin now
    shift 2
    begin=$(date +%s%N)
    until "$@" >/dev/null 2>&1; do
        now=$(date +%s%N)
        if ((now - begin > limit * 1000000000)); then
            echo "FAILED: $what: not within $limit s" >&2
            tail -n 20 "$work"/*.log >&2
            exit 1
        fi
        sleep 0.02
    done
    now=$(date +%s%N)
    echo "ok: $what ($(((now - begin) / 1000000)) ms)"
}

# proxy_config FILE CLUSTER: one service `shop` on port 80.
proxy_config() {
    cat >"$1" <<YAML
listeners: { web: { address: 0.0.0.0:80, protocol: http, service: shop } }
services: { shop: { clusters: [idc] } }
clusters: { idc: { kind: idc, endpoints: ["$2"], probe: { interval: 200ms, timeout: 200ms } } }
drain: { delay: 8s, deadline: 10s }
YAML
}
