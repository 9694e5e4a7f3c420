// One site: its clusters as seen from this proxy, what the site itself reports, and what can be done with all of it.

import { html, section, rules, kpi, tabs, mark, num, rate, ms, msT, pct, usd, ago, stateWord, stateTone,
  words } from './ui.js';
import { world } from './world.js';
import { siteActs, siteDial } from './site-acts.js';
import { ClusterTable } from './table.js';

function sentence(x) {
  const age = world.siteAge(x.name), by = siteDial(x), p = world.proxies(x.name);
  const down = x.clusters.filter(c => c.state === 'down'), parts = [];
  if (age) parts.push(`No news from its proxies for ${ago(age)}: what they reported last stands in grey`);
  else if (p) parts.push(`${p.heard} of ${p.all} ${p.all === 1 ? 'proxy' : 'proxies'}, ${p.age} s old`);
  if (by < 100) parts.push(by ? `all of it is dialled to ${by}\u202f%` : 'all of it is drained by hand');
  if (down.length) parts.push(`${words(down.slice(0, 3).map(c => c.name))}${down.length > 3
    ? ` and ${down.length - 3} more` : ''} down`);
  return parts.length ? parts.join('; ') + '.' : 'Measured from here: none of its proxies is a peer.';
}

// What the proxies of that site see: their services, and their view of every cluster.
function reported(x) {
  const told = world.remote(x.name);
  if (!told) return section('What it reports', null,
    html`<p class="note">Nothing: no proxy of this site is a peer of this one (fleet.peers).</p>`);
  const since = world.fleetHeard ? (performance.now() - world.fleetHeard) / 1000 : 0, age = x.here ? world.proxies(x.name).age : (told.age_s || 0) + since;
  // The own site's report is the sum over the proxies that report now: one that is silent does not make it old.
  const isOld = told.live === false && !x.here, cls = isOld ? ' old' : '';
  const hint = html`<span class=${'hint num' + (isOld ? ' warn' : '')}>${ago(age)} old</span>`;
  if (!told.clusters) return section('What it reports', hint, html`<p class="note">It has not been heard yet.</p>`);
  const services = told.services.length ? html`<div class="scroll">
    <table class=${'dense' + cls}><thead><tr><th class="l" scope="col">Service</th>
      <th class="r" scope="col">Demand</th><th class="r" scope="col">Away</th>
        <th class="r" scope="col">Budget left</th></tr></thead>
    <tbody>
      ${told.services.slice(0, 100).map(s => html`<tr key=${s.name}>
      <th scope="row"><a href=${'#/services/' + encodeURIComponent(s.name)}>${s.name}</a></th>
      <td class="r num">${rate(s.demand_rps)}</td><td class="r num">${pct(s.spill_ratio)}</td>
      <td class="r num">${world.budget(s.name) !== null ? usd(s.budget_left_usd) : '\u2013'}</td></tr>`)}</tbody></table></div>`
        : html`<p class="note">No service has traffic there.</p>`;
  const seen = told.clusters.length ? html`<div class="scroll"><table class=${'dense' + cls}>
    <thead><tr><th class="l" scope="col">Cluster, seen from there</th>
      <th class="l" scope="col">State</th><th class="r" scope="col">Requests/s</th><th class="r" scope="col">Queue</th>
      <th class="r" scope="col">Distance</th></tr></thead>
    <tbody>
      ${told.clusters.slice(0, 100).map(c => { const st = isOld ? 'stale' : c.state;
      return html`<tr key=${c.name} class=${'s-' + st}>
      <th scope="row"><a href=${'#/clusters/' + encodeURIComponent(c.name)}>${c.name}</a></th>
      <td class="state"><span class="markbox">${mark(st, 14)}</span>
        <span class=${'tx-' + (stateTone(st) === 'home' ? 'dim' : stateTone(st))}>
        ${st === 'stale' ? `was ${stateWord(c.state)}` : stateWord(st)}</span></td>
      <td class="r num">${num(c.requests_per_s)}</td><td class="r num">${msT(c.queue_ms)}</td>
        <td class="r num">${msT(c.distance_ms)}</td></tr>`; })}</tbody></table></div>`
    : html`<p class="note">No cluster has traffic from there.</p>`;
  return section('What it reports', hint, services, seen);
}

// The connection to NATS, where the fleet has one.
function nats() {
  const bus = world.fleet?.nats;
  if (!bus) return null;
  return section('NATS', null, rules([
    ['servers', words(bus.servers), 'mono'],
    ['state', bus.connected ? 'connected' : bus.error || 'not connected yet', bus.connected ? '' : 'tx-lost'],
    ['dropped', bus.dropped ? `${num(bus.dropped)} reports, sent to nobody` : 'no report']]));
}

// What this proxy refused since its start: reports of peers, and requests and connections of the admin API.
const REFUSED = {
  token: 'token missing, wrong or not configured', host: 'foreign Host or Origin', connections: 'closed: too many connections',
  unread: 'closed: client did not read', busy: 'too many unread responses', event_streams: 'too many viewers',
  fleet_connections: 'too many peers', fleet_requests: 'peer asked too often',
};
function refusals() {
  const counted = Object.entries(world.fleet?.refused || {}).map(([k, n]) => [`report: ${k.replaceAll('_', ' ')}`, n])
    .concat(Object.entries(world.status?.admin_refused || {}).map(([k, n]) => [REFUSED[k] || k, n]))
    .filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
  return section('Refused', html`<span class="hint">by this proxy, since its start</span>`, counted.length
    ? html`<div class="refusals">${rules(counted.map(([what, n]) => [what, num(n), 'num']))}</div>`
    : html`<p class="note">No report of a peer, and no request or viewer of the admin API.</p>`);
}

export function sites({ arg, query, setQuery, act }) {
  const all = world.sites(), x = all.find(y => y.name === arg[0]) || all[0];
  if (!x) return html`<section class="panel blank">${mark('idle', 22)}<p><b>No site is known.</b></p></section>`;
  const sort = query.get('sort') || 'cluster', by = sort.replace(/^-/, ''), st = world.siteState(x),
    sum = f => x.clusters.reduce((a, c) => a + f(c), 0);
  const up = x.clusters.filter(c => c.state === 'up').length,
    far = x.clusters.map(c => c.distance_ms).filter(d => d !== null);
  const everywhere = world.fleeted, { sum: fromAll, age: old } = world.everywhereOf(x.clusters),
    by_hand = siteDial(x), members = world.members().filter(m => m.site === x.name);
  const heard = m => m.state || 'live', tone = { live: 'up', leaving: 'draining', silent: 'stale', unknown: 'idle' };
  return html`${tabs('sites', all.slice(0, 24).map(y => [y.name, world.siteState(y)]), x.name)}
    <section class="pagehead"><div><h1>${mark(by_hand < 100 && st === 'up' ? 'dialled' : st, 22)}${x.name}</h1>
      <p class="vsub">${sentence(x)}</p></div>${siteActs(x, act)}</section>
    <div class="kpis">${kpi('From here', num(sum(c => world.rate(c.name))), '/s', 'by this proxy')}
      ${everywhere ? kpi('All sites', num(fromAll), '/s',
        old ? `a part is ${ago(old)} old` : 'as the fleet reports', { cls: old ? 'old' : '' }) : null}
      ${kpi('Clusters up', x.clusters.length ? String(up) : '\u2013',
        x.clusters.length ? `of ${x.clusters.length}` : '',
        x.clusters.length ? x.kind : 'none is configured here', { cls: up < x.clusters.length ? 'hot' : '' })}
      ${kpi('Distance', far.length ? ms(Math.min(...far)) : '\u2013', far.length ? 'ms' : '',
        x.here ? 'this site' : far.length > 1 ? 'its nearest cluster' : 'from this proxy')}
      ${kpi('In flight', num(sum(c => c.in_flight)), '', 'by this proxy')}
      ${kpi('Spend', x.clusters.some(c => world.priced(c.name)) ? usd(sum(c => c.cost_usd_per_h)) : '\u2013',
        x.clusters.some(c => world.priced(c.name)) ? '/h' : '', 'caused by this proxy')}</div>
    <div class="cols">
      <div class="stack">
      ${x.clusters.length ? html`<${ClusterTable} only=${x} sort=${[by, sort.startsWith('-') ? -1 : 1]}
        setSort=${([id, d]) => setQuery('sort', id === 'site' || (id === 'cluster' && d > 0) ? null : (d < 0 ? '-' : '') + id)} />` : null}
      ${x.here && !everywhere ? null : reported(x)}</div>
    <div class="stack">
      ${section('Proxies', null, members.length ? html`<ul class="mini proxies">
      ${members.map(m => html`<li key=${m.instance || m.url}>${mark(tone[heard(m)] || 'up', 14)}
        <span class="nm">${m.instance || m.url}</span>
          <span class="r num">
          ${m.self ? 'this one' : heard(m) === 'unknown' ? 'never heard'
          : `${ago(m.age_s + (world.fleetHeard ? (performance.now() - world.fleetHeard) / 1000 : 0))} old`}</span>
        ${m.error ? html`<small class="wide">${m.error}</small>` : null}</li>`)}</ul>`
          : html`<p class="note">
          ${x.here ? 'This process alone: no fleet is configured.' : 'None is a peer: see fleet.peers.'}</p>`)}
      ${x.here ? [nats(), refusals()] : null}
      ${section('Rules', null,
        rules([['kind', x.kind],
        ['accepts', words(world.set('sites', x.name)?.accepts || []) || 'as each cluster says'],
        ['dial', `${by_hand}\u202f%${by_hand < 100 ? ', by hand' : ''}`, by_hand < 100 ? 'tx-hand' : ''],
          ['services',
          words(world.services.filter(s => s.order.some(c => x.clusters.some(y => y.name === c))).slice(0,
          8).map(s => s.name)) || 'none']]))}</div></div>`;
}
