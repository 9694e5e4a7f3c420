// Made-up states, for what a small rig cannot show: many sites, and peers.

const hash = n => { const x = Math.sin(n * 127.1) * 43758.5453; return x - Math.floor(x); };

// A snapshot of so many sites with so many clusters each; `second` makes its figures move.
export function generated(sites, each, second) {
  const clusters = [], services = [];
  for (let s = 0; s < sites; s++) for (let c = 0; c < each; c++) {
    const k = s * each + c, down = hash(k) < 0.01, rps = down ? 0 : 20 * hash(k + 7) * (1 + 0.2 * Math.sin(second + k)), rtt = s === 0 ? 0.5 : 3 + 110 * hash(s + 3);
    clusters.push({ name: `s${String(s).padStart(2, '0')}-c${String(c).padStart(2, '0')}`, site: `site-${String(s).padStart(2, '0')}`, kind: s % 3 ? 'cloud' : 'idc', environment: 'production', state: down ? 'down' : hash(k + 1) < 0.02 ? 'degraded' : 'up', cause: down ? 'connect_timeout' : '', why: 'nearest healthy: takes all', dial_percent: 100, rtt_ms: rtt, distance_ms: down ? null : rtt * (1 + 0.02 * hash(k + second)), service_ms: down ? null : 20 + 10 * hash(k + 2), queue_ms: down ? null : 2 * hash(k + second), tolerates_ms: 4, total_ms: 30, in_flight: Math.round(rps / 10), requests_per_s: rps, success_ratio: 0.9998, share: 0.001, cost_usd_per_h: s ? rps * 0.01 : 0, endpoints: [{ address: `10.0.${s}.${c}:80`, state: 'up', rtt_ms: 1, service_ms: 20, in_flight: 1, last_error: null }] });
  }
  for (let c = 0; c < each; c++) {
    const order = Array.from({ length: sites }, (_, s) => clusters[s * each + c].name), to = {};
    for (const n of order) to[n] = clusters.find(x => x.name === n).requests_per_s;
    const sum = Object.values(to).reduce((a, b) => a + b, 0);
    services.push({ name: `service-${c}`, order, spilling: c % 7 === 0, share: {}, demand_rps: sum, forecast_rps: sum, budget_left_usd: null, requests_per_s: sum, refused_per_s: 0, errors_per_s: 0, p50_ms: 20, p99_ms: 60, cost_usd_per_h: 1, to });
  }
  return { status: { site: 'site-00', environment: 'production', time: new Date(Date.now() + second * 1000).toISOString(), version: '0', uptime_s: 60, draining: false, config: { hash: '0', generation: 1, loaded_at: new Date().toISOString(), last_reload: { ok: true, at: new Date().toISOString(), error: null } } }, clusters, services };
}

// Peers: three proxies here; of the near cloud two are asked, and report 49 of 50; the far one has been silent for 48 s.
export function fleet() {
  const member = (site, n, age_s) => ({ site, instance: `${site}-${n}`, age_s, state: age_s > 6 ? 'silent' : 'live', self: site === 'idc-east' && n === 1 });
  return {
    members: [member('idc-east', 1, 0.2), member('idc-east', 2, 0.9), member('idc-east', 3, 1.1), member('cloud-near', 1, 0.8), member('cloud-near', 2, 1.2), member('cloud-far', 1, 48)],
    sites: [{ site: 'idc-east', own: true, live: true, members: 3, expected: 3, age_s: 1.1, clusters: [{ name: 'shop-idc', state: 'up', requests_per_s: 900 }], services: [] }, { site: 'cloud-near', live: true, members: 49, expected: 50, age_s: 0.8, clusters: [{ name: 'shop-near', state: 'up', requests_per_s: 214 }, { name: 'render-near', state: 'up', requests_per_s: 38 }], services: [] }, { site: 'cloud-far', live: false, members: 12, expected: 12, age_s: 48, clusters: [{ name: 'shop-far', state: 'up', requests_per_s: 386 }], services: [] }],
  };
}
