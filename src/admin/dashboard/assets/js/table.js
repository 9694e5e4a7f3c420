// The same state as a table: dense, sortable by every column, and as fast with a thousand rows as with ten: only the
// rows in sight are in the page.

import { html, Component, ago, mark, bullet, spark, thin, num, few, msT, pct, stateWord, stateTone } from './ui.js';
import { world } from './world.js';
import { siteActs, siteHref } from './site-acts.js';

const COLS = [
  ['cluster', 'Cluster', 'l', ''], ['state', 'State', 'l', ''], ['rps', 'From here', 'r', 'requests/s of this proxy'],
    ['all', 'All sites', 'r', 'requests/s, as the fleet reports them'], ['trend', '10 min', 'c', ''],
  ['rtt', 'Distance', 'r', 'ms'], ['service', 'Service', 'r', 'ms'],
    ['queue', 'Queue', 'r', 'ms, and the tolerated queue'], ['inflight', 'In flight', 'r', ''],
    ['success', 'Success', 'r', ''], ['usd', '$/h', 'r', ''],
];
const ROW = 31, FEW = 120, BEYOND = 30;
const RANK = { down: 6, degraded: 5, full: 4, stale: 3, draining: 2, dialled: 2, up: 1 };
const VALUE = {
  cluster: c => c.name, state: c => RANK[world.stateOf(c)] ?? 0, rps: c => world.rate(c.name),
    all: c => world.everywhere(c.name) ?? -1, rtt: c => c.distance_ms ?? -1, service: c => c.service_ms ?? -1,
  queue: c => c.queue_ms ?? -1, inflight: c => c.in_flight, success: c => c.success_ratio ?? -1,
    usd: c => c.cost_usd_per_h,
};
export const success = x => x === null || x === undefined ? '\u2013' : x === 1 ? '100\u202f%' : x === 0 ? '0\u202f%'
  : (x * 100).toFixed(2) + '\u202f%';

// Clusters over all sites; grey with its age where a site that is not heard is part of the sum.
function everywhere(clusters, cls = '') {
  const { sum, age } = world.everywhereOf(clusters);
  return age ? html`<td class=${`r num tx-none${cls}`} title=${`a part of it is ${ago(age)} old`}>
    ${num(sum)}<small> ${ago(age)} old</small></td>` : html`<td class=${'r num' + cls}>${num(sum)}</td>`;
}

export class ClusterTable extends Component {
  constructor() { super(); this.state = { from: 0, to: FEW }; }
  componentDidMount() {
    this.onScroll =
    () => { if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.look(); }); };
    addEventListener('scroll', this.onScroll, { passive: true }); addEventListener('resize', this.onScroll);
    this.look(); }
  componentWillUnmount() { removeEventListener('scroll', this.onScroll); removeEventListener('resize', this.onScroll);
    cancelAnimationFrame(this.frame); }
  look() {
    if (!this.body || this.count <= FEW) return;
    const top = this.body.getBoundingClientRect().top, from = Math.max(0, Math.floor(-top / ROW) - BEYOND),
      to = Math.ceil((innerHeight - top) / ROW) + BEYOND;
    if (from !== this.state.from || to !== this.state.to) this.setState({ from, to });
  }
  rows(sort, only) {
    const [by, dir] = sort;
    if (by === 'site' && !only) return world.sites().flatMap(x => [{ site: x }, ...x.clusters.map(c => ({ c }))]);
    const value = VALUE[by] || VALUE.cluster;
    return (only ? only.clusters : world.clusters).map(c => ({ c, v: value(c) })).sort((a, b) =>
      (a.v > b.v ? 1 : a.v < b.v ? -1 : a.c.name.localeCompare(b.c.name)) * dir);
  }
  site(x, cols) {
    const sum = f => x.clusters.reduce((a, c) => a + f(c), 0), p = world.proxies(x.name), age = world.siteAge(x.name);
    const news = age
      ? html`<small class="num warn">
      ${world.proxies(x.name)?.never ? `not heard yet, asked for ${ago(age)}` : `last heard ${ago(age)} ago`}</small>`
      : p ? html`<small class="num">${p.heard} of ${p.all} ${p.all === 1 ? 'proxy' : 'proxies'}, ${p.age} s old</small>`
      : html`<small>measured from here</small>`;
    const down = x.clusters.filter(c => c.state === 'down').length;
    return html`<tr key=${'s:' + x.name} class=${'siterow s-' + world.siteState(x)}>
      <th scope="rowgroup" colspan="2"><a href=${siteHref(x.name)}>${x.name}</a>
      <small>${x.here ? 'this site' : x.kind}</small>${news}
      ${down && x.clusters.length > 4 ? html`<small class="tx-lost">${down} down</small>` : null}</th>
      <td class="r num sum">${num(sum(c => world.rate(c.name)))}</td>
      ${cols.includes('all') ? everywhere(x.clusters, ' sum') : null}
      <td colspan="7" class="r siteacts">${this.props.act ? siteActs(x, this.props.act, 'linklike') : null}</td></tr>`;
  }
  row(c, cols) {
    const st = world.stateOf(c), own = world.hist.clusters.get(c.name),
      away = world.services.some(s => world.home(s) !== c.name && (s.to[c.name] || 0) > 0.5);
    const tone = st === 'down' ? 'lost' : away ? 'away' : 'home',
      word = st === 'dialled' ? `dial ${c.dial_percent}\u202f%` : stateWord(st);
    return html`<tr key=${'c:' + c.name} class=${'s-' + st}>
      <th scope="row"><a href=${'#/clusters/' + encodeURIComponent(c.name)} title=${c.why}>${c.name}</a></th>
      <td class="state"><span class="markbox">${mark(st, 14)}</span>
        <span class=${'tx-' + (stateTone(st) === 'home' ? 'dim' : stateTone(st))}>${word}</span></td>
      <td class="r big num">${num(world.rate(c.name))}</td>${cols.includes('all') ? everywhere([c]) : null}
      ${cols.includes('trend') ? html`<td class="c"><span class="sparkcell">
        ${own?.requests_per_s ? spark(thin(own.requests_per_s), tone) : null}</span></td>` : null}
      <td class="r num">${msT(c.distance_ms)}</td><td class="r num">${msT(c.service_ms)}</td>
        <td class="r num queue">${msT(c.queue_ms)}${bullet(c.queue_ms, c.tolerates_ms)}</td>
      <td class="r num">${few(c.in_flight)}</td><td class="r num">${success(c.success_ratio)}</td>
        <td class="r num">${world.priced(c.name) ? c.cost_usd_per_h.toFixed(2) : '\u2013'}</td></tr>`;
  }
  render({ sort, setSort, only }, { from, to }) {
    const fleet = world.fleeted, cols = COLS.filter(([id]) => (id !== 'all' || fleet) && (id !== 'trend' || !only)),
      ids = cols.map(([id]) => id);
    const all = this.rows(sort, only); this.count = all.length;
    const few = all.length <= FEW, a = few ? 0 : Math.min(from, all.length),
      b = few ? all.length : Math.min(to, all.length);
    const gap = (n, k) => n > 0 ? html`<tr key=${k} class="gaprow" aria-hidden="true">
      <td colspan=${cols.length} style=${{ '--h': n * ROW + 'px' }}></td></tr>` : null;
    const head =
      cols.map(([id, name, align, unit]) => html`<th scope="col" class=${`${align} c-${id}`}
      aria-sort=${sort[0] === id ? (sort[1] > 0 ? 'ascending' : 'descending') : null}>
      ${id === 'trend' ? name
      : html`<button type="button" title=${unit || null}
      onClick=${() => setSort(sort[0] !== id ? [id, -1] : sort[1] === -1 ? [id, 1] : only ? [id, -1] : ['site', 1])}>
      ${name}</button>`}
      </th>`);
    return html`<section class="panel tablewrap" aria-label="Clusters">
      <div class="scroll" tabindex="0" role="region" aria-label="Clusters, table">
      <table class=${'dense ' + (sort[0] === 'site' ? 'grouped' : '')} aria-rowcount=${all.length}>
      <thead><tr>${head}</tr></thead>
      <tbody ref=${el => { this.body = el; }}>${gap(a, 'before')}
        ${all.slice(a, b).map(r => r.site ? this.site(r.site, ids) : this.row(r.c, ids))}
        ${gap(all.length - b, 'after')}</tbody></table></div></section>`;
  }
}
