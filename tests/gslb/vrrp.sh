#!/bin/bash
# Two proxies share an address by VRRP (keepalived) in network namespaces: a proxy that drains gives the address up
# before it stops listening, so that no request fails; a killed proxy loses the address within seconds.
#
#     sudo tests/gslb/vrrp.sh [target/debug/tidegate]
. "$(dirname "$0")/lib.sh"
need ip curl keepalived python3

space tg-client
ip -n tg-client link add bridge type bridge
ip -n tg-client addr add 10.99.0.1/24 dev bridge
ip -n tg-client link set bridge up
for number in 1 2; do
    space "tg-gw$number"
    ip link add "port$number" netns tg-client type veth peer name eth0 netns "tg-gw$number"
    ip -n tg-client link set "port$number" master bridge up
    ip -n "tg-gw$number" addr add "10.99.0.1$number/24" dev eth0
    ip -n "tg-gw$number" link set eth0 up
done
mkdir "$work/www" && echo hello >"$work/www/index.html"
start tg-client cluster python3 -m http.server --bind 10.99.0.1 --directory "$work/www" 8000
cluster=$!
proxy_config "$work/proxy.yaml" 10.99.0.1:8000

for number in 1 2; do
    start "tg-gw$number" "proxy$number" "$binary" run --config "$work/proxy.yaml"
    eval "proxy$number=$!"
    # keepalived expects the checked program, and its own files, outside of folders that others may write.
    start "tg-gw$number" "keepalived$number" keepalived --dont-fork --log-console \
        --use-file "$configs/keepalived.conf" --pid "$work/k$number.pid" --vrrp_pid "$work/v$number.pid"
    sleep 0.2
done

has() { ip -n "tg-gw$1" -4 addr show dev eth0 | grep -q 10.99.0.100; }
answers() { ip netns exec tg-client curl -fsS -m 1 http://10.99.0.100/; }
ready() { ip netns exec "tg-gw$1" curl -fsS 'http://127.0.0.1:9901/readyz?service=shop'; }
one_has() { has 1 || has 2; }

until_true 20 "both proxies can serve" eval "ready 1 && ready 2"
until_true 20 "one proxy has the address" one_has
until_true 20 "clients are served at it" answers
if has 1; then first=1 second=2; else first=2 second=1; fi

# A steady client; each failure is counted.
(
    while [ ! -e "$work/stop" ]; do
        if answers >/dev/null 2>>"$work/errors"; then echo ok; else echo failed; fi
        sleep 0.02
    done >"$work/requests"
) &
pids+=($!)

eval "kill -TERM \$proxy$first"
until_true 10 "a draining proxy gives the address up" has "$second"
until_true 20 "the drained proxy has ended" eval "! kill -0 \$proxy$first"
touch "$work/stop"
sleep 0.3
served=$(grep -c ok "$work/requests" || true)
failed=$(grep -c failed "$work/requests" || true)
echo "requests during the move: $served served, $failed failed"
[ "$failed" = 0 ] && [ "$served" -gt 50 ] || { echo "FAILED: requests were lost" >&2; cat "$work/errors" >&2; exit 1; }

start "tg-gw$first" "proxy$first-again" "$binary" run --config "$work/proxy.yaml"
until_true 20 "the first proxy is back" ready "$first"
sleep 2.5 # The check has to pass twice: keepalived shows no event that could be awaited here.
eval "kill -KILL \$proxy$second"
until_true 10 "a killed proxy loses the address" has "$first"
until_true 5 "clients are served again" answers

# The service is down for both: the address stays, and the proxy answers with its reason.
kill "$cluster"
until_true 10 "a site without a live cluster is not ready" eval "! ready $first"
code=$(ip netns exec tg-gw$first curl -s -o /dev/null -w '%{http_code} %header{tidegate-headroom}' 'http://127.0.0.1:9901/readyz?service=shop')
[ "$code" = "503 0" ] || { echo "FAILED: $code" >&2; exit 1; }
one_has || { echo "FAILED: nobody has the address" >&2; exit 1; }
echo "all checks passed"
