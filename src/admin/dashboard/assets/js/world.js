// The state of the page: the newest snapshot, ten minutes of history, and the states derived from them.
// Every figure comes from the API; this file adds sums, shares and thresholds.

import { get, stream, hasToken } from './api.js';

export const SPAN = 600;
const SERVICE = ['requests_per_s', 'refused_per_s', 'errors_per_s', 'p50_ms', 'p99_ms', 'forecast_rps', 'usd_per_hour'];
const CLUSTER = ['requests_per_s', 'in_flight', 'queue_ms', 'tolerates_ms', 'distance_ms', 'service_ms',
  'success_ratio', 'state'];
const CODE = { up: 1, draining: 2, degraded: 3, down: 4 };
export const WORD = [null, 'up', 'draining', 'degraded', 'down'];

// A ring of the last ten minutes: the newest value last.
const blank = () => new Array(SPAN).fill(null);

class World {
  constructor() {
    this.phase = 'loading';          // loading | live | lost | denied
    this.status = null; this.clusters = []; this.services = [];
    this.config = null; this.generation = null; this.fleet = null;
    this.events = []; this.end = 0;  // the second after the newest of the rings
    this.hist = { services: new Map(), clusters: new Map() };
    this.heard = 0; this.retry = 0; this.refusal = 0; this.version = 0;
    this.byName = new Map(); this.days = new Map();
    this.wake = () => {}; this.live = null;
  }

  // ---- the connection
  start() {
    this.live?.stop();
    this.live = stream({
      onEvent: (kind, value) => kind === 'snapshot' ? this.snapshot(value) : this.event(value),
      onEnd: (status, wait) => {
        this.refusal = status; this.retry = performance.now() + wait * 1000;
        if (status === 401 || status === 403) this.phase = 'denied';
        else if (this.phase === 'live') this.phase = 'lost';
        else if (this.phase === 'loading' && status !== 200) this.phase = this.status ? 'lost' : 'loading';
        this.wake();
      },
    });
    this.history();
  }
  stop() { this.live?.stop(); this.live = null; }
  // Seconds since the newest snapshot, by this page's clock.
  get age() { return this.heard ? Math.max(0, (performance.now() - this.heard) / 1000) : 0; }
  get cold() { return this.phase === 'lost' || (this.phase === 'live' && this.age > 3.5); }
  get wall() { return this.end + (this.cold ? Math.round(this.age) : 0); }

  async history() {
    const told = await get('api/v1/history?range=10m');
    if (!told.ok) return;
    const h = told.body, grow = (into, figures, source) => {
      for (const [name, of] of Object.entries(source)) {
        const own = into.get(name) || {};
        for (const f of figures) if (of[f]) own[f] = stretch(of[f], h.step_s);
        if (of.to) { own.to = {}; for (const [c, v] of Object.entries(of.to)) own.to[c] = stretch(v, h.step_s); }
        into.set(name, own);
      }
    };
    grow(this.hist.services, SERVICE, h.services); grow(this.hist.clusters, CLUSTER, h.clusters);
    this.events = h.events.map(stamp);
    this.end = h.end;
    this.wake();
  }
  // A longer range, kept for ten seconds: { x, services, clusters }.
  range(range, query) {
    const key = range + '?' + query, known = this.days.get(key);
    if (!known || performance.now() - known.at > 10000) {
      const kept = known || { value: null }; kept.at = performance.now(); this.days.set(key, kept);
      if (this.days.size > 8) this.days.delete(this.days.keys().next().value);
      get(`api/v1/history?range=${range}&points=900&${query}`).then(told => {
        if (told.ok) { kept.value = told.body; this.wake(); } });
    }
    return this.days.get(key)?.value ?? null;
  }

  // What the traffic has cost since the start, at most ten seconds old; null before the first answer.
  costs() {
    if (!this.bill || performance.now() - this.bill.at > 10000) {
      const kept = this.bill || { value: null }; kept.at = performance.now(); this.bill = kept;
      get('api/v1/cost').then(told => { if (told.ok) { kept.value = told.body; this.wake(); } });
    }
    return this.bill.value;
  }

  snapshot(s) {
    this.phase = 'live'; this.heard = performance.now(); this.version += 1;
    this.status = s.status; this.clusters = s.clusters; this.services = s.services;
    this.fleet = s.fleet || this.fleet; this.operation = s.operation || null;
    this.byName = new Map(s.clusters.map(c => [c.name, c]));
    const at = Math.floor(Date.parse(s.status.time) / 1000);
    if (Number.isFinite(at)) this.record(at);
    if (s.status.config.generation !== this.generation) this.settings(s.status.config.generation);
    this.peers();
    this.wake();
  }
  record(at) {
    if (this.end === 0) this.end = at;
    const shift = Math.min(SPAN, at + 1 - this.end);
    // A second between two snapshots gets the values of the next one.
    const put = (own, f, v) => { const r = own[f] || (own[f] = blank());
      if (shift > 0) { for (let i = 0; i < shift; i++) r.shift();
      while (r.length < SPAN) r.push(shift <= 3 ? v ?? null : null); } r[SPAN - 1] = v ?? null; };
    if (shift < 0) return;
    for (const s of this.services) {
      const own = this.hist.services.get(s.name) || {}; this.hist.services.set(s.name, own);
      const now = { requests_per_s: s.requests_per_s, refused_per_s: s.refused_per_s, errors_per_s: s.errors_per_s,
        p50_ms: s.p50_ms, p99_ms: s.p99_ms, forecast_rps: s.forecast_rps, usd_per_hour: s.cost_usd_per_h };
      for (const f of SERVICE) put(own, f, now[f]);
      own.to = own.to || {};
      for (const c of new Set([...Object.keys(own.to), ...Object.keys(s.to)])) put(own.to, c, s.to[c] ?? 0);
    }
    const rates = this.rates();
    for (const c of this.clusters) {
      const own = this.hist.clusters.get(c.name) || {}; this.hist.clusters.set(c.name, own);
      for (const f of CLUSTER) put(own, f, f === 'state' ? CODE[c.state] : f === 'requests_per_s' ? rates.get(c.name)
        || 0 : c[f]);
    }
    if (shift > 0) this.end = at + 1;
  }
  // Exchanges a second by cluster, over all services.
  rates() {
    const all = new Map();
    for (const s of this.services) for (const [c, v] of Object.entries(s.to)) all.set(c, (all.get(c) || 0) + v);
    return all;
  }
  event(value) {
    if (!value || !value.kind) return;
    this.events.push(stamp(value));
    if (this.events.length > 500) this.events.shift();
    this.wake();
  }
  async settings(generation) {
    this.generation = generation;
    const told = await get('api/v1/config');
    if (told.ok) { this.config = told.body; this.wake(); }
  }
  // The reports of other proxies, if this proxy belongs to a fleet.
  async peers() {
    // The list of paths shows whether there is a fleet; a request for an absent path would be an error.
    if (this.alone === undefined) { this.alone = true;
      get('api').then(told => { this.alone = !(told.ok && String(told.body).includes('/api/v1/fleet')); }); return; }
    // What grows old is asked for more often, so that a site that falls silent shows soon.
    const since = (performance.now() - (this.askedPeers || 0)) / 1000,
      old = this.members().some(m => !m.self && m.age_s + since > 3.5);
    if (this.alone || this.asking || since < (old ? 0.9 : 1.9)) return;
    this.asking = true; this.askedPeers = performance.now();
    const told = await get('api/v1/fleet', 5);
    this.asking = false;
    if (told.status === 404) this.alone = true;
    if (told.ok && told.body) { this.fleet = told.body; this.fleetHeard = performance.now(); this.wake(); }
  }

  // ---- derived values
  get token() { return hasToken(); }
  get site() { return this.status?.site ?? ''; }
  members() { return Array.isArray(this.fleet?.members) ? this.fleet.members : []; }
  // How many proxies of a site report, and the age of the oldest report in seconds. Without a fleet: this one alone.
  proxies(site) {
    const since = this.fleetHeard ? (performance.now() - this.fleetHeard) / 1000 : 0;
    const told = site === this.site ? null : this.remote(site);
    // The report of another site counts all of its proxies; this proxy asks two of them at most.
    if (told && typeof told.members === 'number') return {
      heard: told.live !== false && since < 10 ? told.members : 0, all: Math.max(told.members, told.expected || 0),
      age: Math.max(1, Math.round((told.age_s || 0) + since)), never: false };
    const own = this.members().filter(m => m.site === site);
    if (!own.length) return site === this.site
      ? { heard: 1, all: 1, age: Math.max(1, Math.round(this.age)), alone: !this.members().length } : null;
    // What the proxy calls silent is silent; while this page hears nothing of the fleet, nobody is heard.
    const age = m => (m.age_s || 0) + since,
      heard = own.filter(m => (m.self || m.state === 'live' || m.state === 'leaving') && since < 10);
    const ages = (heard.length ? heard : own.some(m => m.state === 'silent') ? own.filter(m => m.state === 'silent')
      : own).map(age);
    const oldest = heard.length ? Math.max(...ages) : Math.min(...ages);
    return { heard: heard.length, all: own.length, age: Math.max(1, Math.round(oldest)),
      never: own.every(m => m.state === 'unknown') };
  }
  // Seconds since a site was last heard; 0 while it is heard, and in the first seconds of a conversation.
  siteAge(site) { if (site === this.site) return 0; const p = this.proxies(site);
    return p && !p.heard && !(p.never && p.age < 6) ? p.age : 0; }
  // "this proxy, 1 of 3", where the site has more than this one: whose figures they are.
  get one() { const p = this.status ? this.proxies(this.site) : null;
    return p && p.all > 1 ? `this proxy, 1 of ${p.all}` : null; }
  // Whether other proxies or sites are known at all.
  get fleeted() {
    return Array.isArray(this.fleet?.sites) && (this.fleet.sites.length > 1 || this.members().length > 1); }
  remote(site) { const all = this.fleet?.sites; return Array.isArray(all) ? all.find(x => x.site === site) : null; }
  // What each site sends to a cluster: [site, exchanges a second], by the newest reports.
  sentTo(name) {
    if (this.sentBy !== this.fleet) {
      this.sentBy = this.fleet; this.sent = new Map();
      for (const x of this.fleet.sites) for (const c of x.clusters || []) {
        const parts = this.sent.get(c.name) || []; this.sent.set(c.name, parts);
        parts.push([x.site, c.requests_per_s || 0]);
      }
    }
    return this.sent.get(name) || [];
  }
  // Exchanges a second of a cluster over all sites, if the fleet reports them.
  everywhere(name) {
    if (!this.fleeted) return null;
    // The own site's report is the sum over its proxies, this one among them; without it, only its own rate is known.
    const own = this.remote(this.site)?.clusters;
    return this.sentTo(name).reduce((sum, [, rps]) => sum + rps, own ? 0 : this.rate(name));
  }
  // The oldest report that is part of it, where a site is not heard now: its last figure still counts.
  everywhereAge(name) {
    if (!this.fleeted) return 0;
    const least = Math.max(0.05, 0.02 * this.everywhere(name));
    return Math.max(0, ...this.sentTo(name).filter(([, rps]) => rps > least).map(([site]) => this.siteAge(site)));
  }

  // The same for several clusters: the sum, and the age of its oldest part that is not heard now, else 0.
  everywhereOf(clusters) {
    return { sum: clusters.reduce((a, c) => a + (this.everywhere(c.name) || 0), 0),
      age: Math.max(0, ...clusters.map(c => this.everywhereAge(c.name))) };
  }

  sites() {
    const all = new Map(), own = this.site;
    for (const c of this.clusters) {
      const x = all.get(c.site) || { name: c.site, kind: c.kind, here: c.site === own, clusters: [] };
      x.clusters.push(c); all.set(c.site, x);
    }
    for (const m of this.members()) if (!all.has(m.site)) all.set(m.site, { name: m.site, kind: 'site',
      here: m.site === own, clusters: [] });
    return [...all.values()].sort((a, b) => (b.here - a.here) || (a.kind === 'idc' ? 0 : 1) - (b.kind === 'idc' ? 0 : 1)
      || a.name.localeCompare(b.name));
  }
  rate(name) { if (this.rateOf !== this.version) { this.rateOf = this.version;
    this.ratesNow = this.rates(); } return this.ratesNow.get(name) || 0; }
  // The service that sends most to a cluster or to a site, by the newest snapshot; without traffic the first one of its
  // clusters.
  mostTo(kind, name) {
    if (this.mostOf !== this.version) {
      this.mostOf = this.version; this.most = { clusters: new Map(), sites: new Map() };
      const keep = (map, key, service, rps) => { const was = map.get(key);
        if (!was || rps > was.rps) map.set(key, { service, rps }); };
      for (const s of this.services) {
        const sites = new Map();
        for (const c of s.order) {
          const rps = s.to[c] || 0, site = this.byName.get(c)?.site;
          keep(this.most.clusters, c, s.name, rps); sites.set(site, (sites.get(site) || 0) + rps);
        }
        for (const [site, rps] of sites) keep(this.most.sites, site, s.name, rps);
      }
    }
    return this.most[kind].get(name)?.service ?? null;
  }
  home(service) { return service.order[0]; }
  stateOf(c) {
    if (!c) return 'idle';
    if (c.state !== 'up') return c.state;
    if (c.dial_percent < 100) return 'dialled';
    return c.queue_ms !== null && c.tolerates_ms && c.queue_ms > 0.8 * c.tolerates_ms ? 'full' : 'up';
  }
  // The state of a cluster in a past second.
  stateAt(name, index) {
    const own = this.hist.clusters.get(name), code = own?.state?.[index];
    if (code === null || code === undefined) return 'none';
    const word = WORD[Math.round(code)] || 'none', q = own.queue_ms?.[index], t = own.tolerates_ms?.[index];
    return word === 'up' && q !== null && t && q > 0.8 * t ? 'full' : word;
  }
  siteState(x) {
    const all = x.clusters.map(c => this.stateOf(c));
    // Its clusters are measured from here, whether its proxies are heard or not.
    if (all.length && all.every(s => s === 'down')) return 'down';
    if (this.siteAge(x.name)) return 'stale';
    if (!all.length) return 'up';
    if (all.some(s => s === 'down' || s === 'degraded')) return 'degraded';
    if (all.every(s => s === 'draining')) return 'draining';
    return all.some(s => s === 'full') ? 'full' : 'up';
  }
  figures(s) {
    const home = this.home(s), sum = Object.values(s.to).reduce((a, b) => a + b, 0);
    const at = s.to[home] || 0, demand = sum + s.refused_per_s;
    return { demand, home: at, away: sum - at, refused: s.refused_per_s, errors: s.errors_per_s };
  }
  serviceState(s) {
    const f = this.figures(s), home = this.byName.get(this.home(s));
    if (f.demand > 0 && f.refused / f.demand > 0.5) return 'refused';
    if (f.refused > 0.5 && f.refused / f.demand > 0.005) return 'degraded';
    if (f.demand > 0 && f.errors / f.demand > 0.02) return 'degraded';
    const away = f.demand > 0 && f.away / f.demand > 0.02;
    if (home && away && home.state === 'down') return 'failover';
    if (home && away && (home.dial_percent < 100 || (s.shift && !s.shift.rests))) return 'dialled';
    if (s.spilling || away) return home?.state === 'degraded' ? 'failover' : 'spill';
    return f.demand > 0.05 ? 'nearest' : 'idle';
  }
  totals() {
    const sum = { demand: 0, home: 0, away: 0, refused: 0, usd: 0 };
    for (const s of this.services) { const f = this.figures(s); sum.demand += f.demand; sum.home += f.home;
      sum.away += f.away; sum.refused += f.refused; sum.usd += s.cost_usd_per_h; }
    return sum;
  }
  // The seconds of the rings, as seconds since 1970.
  xs() { return Array.from({ length: SPAN }, (_, i) => this.end - SPAN + i); }
  // Sums over services by second: at home, away, refused.
  course() {
    const out = { home: blank(), away: blank(), refused: blank() };
    for (const s of this.services) {
      const own = this.hist.services.get(s.name); if (!own) continue;
      const home = this.home(s);
      for (let i = 0; i < SPAN; i++) {
        const all = own.requests_per_s?.[i]; if (all === null || all === undefined) continue;
        const r = own.refused_per_s?.[i] || 0, h = own.to?.[home]?.[i] || 0;
        out.home[i] = (out.home[i] || 0) + h; out.refused[i] = (out.refused[i] || 0) + r;
          out.away[i] = (out.away[i] || 0) + Math.max(0, all - r - h);
      }
    }
    return out;
  }
  everCalled() { for (const own of this.hist.services.values()) if (own.requests_per_s?.some(v => v > 0)) return true;
    return false; }
  // Since when a cluster or a service has been in this state, in seconds; null if no event shows it.
  since(test) { for (let i = this.events.length - 1; i >= 0; i--) if (test(this.events[i])) return Math.max(0,
    this.wall - this.events[i].t); return null; }
  // The settings of a service, cluster or site, as configured.
  set(kind, name) { return this.config?.[kind]?.[name] ?? null; }
  // What this proxy may spend: its part at present where the proxies of the site share the budget.
  budget(name) { return this.services.find(s => s.name === name)?.budget_usd_per_h ?? null; }
  price(c) { const p = this.set('clusters', c)?.cost;
    return p ? { gib: p.per_gib || 0, million: p.per_million_requests || 0 } : { gib: 0, million: 0 }; }
  priced(c) { const p = this.price(c); return p.gib > 0 || p.million > 0; }
  // A host and a path that lead to a service, for a first query.
  example(service) {
    const at = r => r.path || r.path_prefix || '/',
      leads = (this.config?.routes || []).filter(r => r.service === service || r.split?.[service]);
    // The shortest path: the route that matches most requests.
    const r = leads.sort((a, b) => at(a).length - at(b).length)[0];
    if (r) return { host: (r.hosts?.[0] || 'any.example').replace(/^\*\./, 'www.'), path: at(r) };
    for (const [name, l] of Object.entries(this.config?.listeners || {})) if (l.service === service) return {
      host: 'any.example', path: '/', listener: name, l4: l.protocol !== 'http' };
    return { host: 'any.example', path: '/' };
  }
  whyHref(service) {
    const e = this.example(service);
    return `#/why/${encodeURIComponent(e.host)}${e.path.split('/').map(encodeURIComponent).join('/')}${e.listener
      ? '?listener=' + encodeURIComponent(e.listener) : ''}`;
  }
}

function stretch(points, step) {
  if (step === 1 && points.length === SPAN) return points.slice();
  const out = []; for (const p of points) for (let i = 0; i < step; i++) out.push(p);
  while (out.length < SPAN) out.unshift(null);
  return out.slice(-SPAN);
}

// An event as a mark on the time line: when, a word, a tone and a glyph.
function stamp(e) {
  const t = Math.floor(Date.parse(e.time) / 1000);
  const say = (glyph, tone, text) => ({ ...e, t, glyph, tone, text });
  switch (e.kind) {
    case 'spill': return say('spillev', 'away', `${e.service} ${e.spilling ? 'spills' : 'back home'}`);
    case 'cluster': return e.state === 'down' ? say('down', 'lost', `${e.cluster} down`) : e.state === 'degraded'
      ? say('degraded', 'away', `${e.cluster} degraded`) : e.state === 'draining'
      ? say('draining', 'hand', `${e.cluster} draining`) : say('up', 'home', `${e.cluster} up`);
    case 'ejected': return say('degraded', 'away', `${e.endpoint} ejected`);
    case 'returned': return say('up', 'home', `${e.endpoint} returned`);
    case 'reload': return e.ok ? say('reload', 'info', `Reloaded, generation ${e.generation}`)
      : say('reloadfail', 'lost', 'Reload refused');
    case 'certificates': return e.ok ? say('reload', 'info', 'Certificates reloaded')
      : say('reloadfail', 'lost', 'Certificates refused');
    case 'dial': return say('hand', 'hand',
      e.percent === null ? `${e.name}: dial taken back` : e.percent === 0 ? `${e.name} drained`
      : `${e.name} dialled to ${e.percent}\u202f%`);
    case 'drill': case 'shift': return say('hand', 'hand', e.phase === 'ended'
      ? `${e.kind} of ${e.name} ${e.outcome}${e.cause ? `: ${e.cause}` : ''}` : e.phase === 'returning'
      ? `${e.name}: traffic returned` : `${e.kind} of ${e.name}`);
    case 'budget': return say('budget', 'away', e.empty ? `${e.service}: budget spent` : `${e.service}: budget again`);
    default: return say('reload', 'info', String(e.kind));
  }
}

export const world = new World();
