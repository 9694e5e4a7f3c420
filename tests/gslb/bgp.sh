#!/bin/bash
# A site announces an anycast address by ExaBGP while it can serve, and withdraws it when it cannot or drains. The router
# is BIRD, in another network namespace.
#
#     sudo tests/gslb/bgp.sh [target/debug/tidegate]
. "$(dirname "$0")/lib.sh"
need ip curl exabgp bird birdc python3

space tg-router
space tg-site
ip link add site netns tg-router type veth peer name eth0 netns tg-site
ip -n tg-router addr add 10.99.1.1/24 dev site
ip -n tg-router link set site up
ip -n tg-site addr add 10.99.1.2/24 dev eth0
ip -n tg-site link set eth0 up
ip -n tg-site addr add 192.0.2.10/32 dev lo

mkdir "$work/www" && echo hello >"$work/www/index.html"
cluster() { start tg-site cluster python3 -m http.server --bind 127.0.0.1 --directory "$work/www" 8000; cluster=$!; }
cluster
proxy_config "$work/proxy.yaml" 127.0.0.1:8000
start tg-site proxy "$binary" run --config "$work/proxy.yaml"
proxy=$!

cat >"$work/bird.conf" <<BIRD
router id 10.99.1.1;
protocol device {}
protocol kernel { ipv4 { export all; }; }
protocol bgp site {
    local 10.99.1.1 as 64513;
    neighbor 10.99.1.2 as 64512;
    hold time 9;
    ipv4 { import all; export none; };
}
BIRD
start tg-router bird bird -f -c "$work/bird.conf" -s "$work/bird.ctl" -P "$work/bird.pid"
sed "s#/etc/tidegate#$configs#" "$configs/exabgp.conf" >"$work/exabgp.conf"
start tg-site exabgp env exabgp.daemon.user=root exabgp.log.destination=stdout exabgp.api.cli=false exabgp "$work/exabgp.conf"

announced() { birdc -s "$work/bird.ctl" show route 192.0.2.10/32 | grep -q 10.99.1.2; }
answers() { ip netns exec tg-router curl -fsS -m 1 http://192.0.2.10/; }

until_true 30 "the route is announced" announced
until_true 5 "clients are served at the anycast address" answers
birdc -s "$work/bird.ctl" show route 192.0.2.10/32 | tail -n +2
kill "$cluster"
until_true 15 "without a live cluster the route is withdrawn" eval "! announced"
cluster
until_true 20 "with a live cluster it is announced again" announced
until_true 5 "clients are served again" answers
kill -TERM "$proxy"
until_true 15 "a draining proxy withdraws the route" eval "! announced"
kill -0 "$proxy" && echo "ok: the proxy still listens (drain.delay)"
echo "all checks passed"
