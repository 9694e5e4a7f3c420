// The views: map, service, cluster, decisions and cost. Each is a function of the world and of the address.

import { html, Component, section, rules, kpi, tabs, mark, chip, bar, bullet, rich, num, few, ms, msT, pct, usd, size, rate,
  ago, clock, words, stateWord, stateTone, AWAY } from './ui.js';
import { world, SPAN } from './world.js';
import { SiteMap } from './map.js';
import { ClusterTable, success } from './table.js';
import { Chart } from './chart.js';
import { get } from './api.js';
import { liveHref, pastHref } from './views-past.js';
import { siteHref } from './site-acts.js';

const AHEAD = 60;
const plain = cause => String(cause || '').replaceAll('_', ' ');

// -------------------------------------------- verdict: the problem, its beginning, and where the traffic goes
export function verdict() {
  if (world.phase === 'loading' && world.refusal === 503) return { tone: 'none', glyph: 'stale',
    head: ['As many pages as it serves watch this proxy already'],
    sub: [`${location.host} streams to 32 viewers at once. This page tries again.`] };
  if (world.phase === 'loading') return { tone: 'none', glyph: 'stale', head: ['Asking the proxy\u2026'],
    sub: [location.host] };
  if (world.phase === 'denied') return { tone: 'none', glyph: 'lock', head: ['This proxy asks for its token'],
    sub: [world.refusal === 403
    ? 'The admin API refuses this page: no token is configured, or the name of this host is not allowed '
      + '(admin.token_file, admin.allowed_hosts).'
    : 'On an address other than loopback, every read needs the token of admin.token_file.'], ask: true };
  if (world.cold) return { tone: 'none', glyph: 'stale',
    head: ['This page is cut off. Its figures are ', { b: ago(world.age) }, ' old'],
    sub: [`The proxy may be healthy: only this page has no connection to ${location.host}.`] };
  const t = world.totals(), all = world.services, of = s => ({ s, f: world.figures(s), st: world.serviceState(s) }),
    states = all.map(of);
  const down = world.clusters.filter(c => c.state === 'down'), sites = world.sites(),
    lostSite = sites.find(x => x.clusters.length > 1 && world.siteState(x) === 'down');
  const downName = lostSite ? lostSite.name : down.length > 2 ? `${down.length} clusters`
    : words(down.map(c => c.name)), is = !lostSite && down.length > 1 ? 'are' : 'is';
  const downSince = down.length ? world.since(e => e.kind === 'cluster' && e.state === 'down'
    && down.some(c => c.name === e.cluster)) : null;
  const refusing = states.filter(x => x.f.refused > 0.3 && x.f.refused > 0.002 * x.f.demand).sort((a, b) =>
    b.f.refused - a.f.refused);
  if (refusing.length) {
    const w = refusing[0].s, home = world.byName.get(world.home(w)),
      names = words(refusing.slice(0, 3).map(x => x.s.name));
    if (down.length) return { tone: 'lost', glyph: 'down', since: downSince, why: world.whyHref(w.name),
      head: [{ b: downName }, ` ${is} down: `, { b: `${num(t.refused)}/s refused`, tone: 'lost' },
      ...(t.away > 0.5 ? [', ', { b: rate(t.away) }, ' elsewhere'] : [])],
      sub: [`Refused: ${names}. ${home ? `${home.name}: ${home.why}.` : ''} `,
      states.some(x => x.f.away > 0.5)
      ? `${words(states.filter(x => x.f.away > 0.5).map(x => x.s.name))} is served elsewhere.` : ''] };
    return { tone: 'lost', glyph: 'down', why: world.whyHref(w.name),
      head: [{ b: names }, ': ', { b: `${rate(refusing.reduce((a, x) => a + x.f.refused, 0))} refused`, tone: 'lost' }],
      sub: [home ? `${home.name}: ${home.why}.` : 'The reason is in every refusal: tidegate-refusal.'] };
  }
  const failed = states.filter(x => x.st === 'failover'),
    spilled = states.filter(x => x.st === 'spill').sort((a, b) => b.f.away - a.f.away);
  const target = x => Object.entries(x.s.to).filter(([c]) => c !== world.home(x.s)).sort((a, b) => b[1] - a[1])[0]?.[0];
  if (down.length && failed.length) return { tone: 'away', glyph: 'spillev', since: downSince,
    why: world.whyHref(failed[0].s.name),
    head: [{ b: downName }, ` ${is} down: `, { b: words(failed.slice(0, 3).map(x => x.s.name)) },
    ' failed over to ', { b: target(failed[0]), tone: 'away' }],
    sub: [`Nothing is refused. ${down[0].name}: ${down[0].why}.`] };
  const erring = states.filter(x => x.f.errors > 0.5 && x.f.errors / x.f.demand > 0.02);
  if (erring.length) { const x = erring[0];
    return { tone: 'lost', glyph: 'degraded', why: world.whyHref(x.s.name),
    head: [{ b: x.s.name }, ': ', { b: pct(x.f.errors / x.f.demand), tone: 'lost' }, ' of the answers are errors'],
    sub: [`${rate(x.f.errors)} with a status of 500 or more, from the clusters themselves.`] }; }
  if (spilled.length) {
    const x = spilled[0], home = world.byName.get(world.home(x.s)), to = target(x);
    return { tone: 'away', glyph: 'full',
      since: world.since(e => e.kind === 'spill' && e.service === x.s.name && e.spilling), why: world.whyHref(x.s.name),
      head: [{ b: x.s.name }, ' spills ', { b: pct(x.f.away / x.f.demand), tone: 'away' },
      ' to ', { b: to || 'others' }], sub: [home ? `${home.name}: ${home.why}. ` : '', 'All requests are served.'] };
  }
  if (down.length) return { tone: 'away', glyph: 'down', since: downSince,
    head: [{ b: downName }, ` ${is} down; all traffic is served`], sub: [`${down[0].name}: ${down[0].why}.`] };
  const byHand = world.clusters.filter(c => c.dial_percent < 100);
  if (byHand.length) { const c = byHand[0],
    away = t.away > 0.5 ? [', ', { b: pct(t.away / t.demand) }, ' of the traffic is elsewhere'] : [];
    return { tone: 'hand', glyph: 'draining',
    since: world.since(e => e.kind === 'dial' && (e.name === c.name || e.name === c.site)),
    head: [{ b: words(byHand.slice(0, 3).map(x => x.name)) },
    c.awaits_undrain ? ' returned, and waits for an undrain'
    : c.dial_percent ? ` dialled to ${c.dial_percent}\u202f%` : ' drained', ...away],
    sub: [c.awaits_undrain ? 'failback.mode is manual. Nothing is refused.'
    : 'By hand or by the file. Nothing is refused.'] }; }
  const shifted = all.filter(s => s.shift && !s.shift.rests);
  if (shifted.length) { const { name, shift } = shifted[0];
    return { tone: 'hand', glyph: 'draining', since: world.since(e => e.kind === 'shift' && e.name === name),
    head: [{ b: name }, `: ${shift.percent}\u202f% of ${shift.from} goes to `, { b: shift.to }],
    sub: ['By a shift. Nothing is refused.'] }; }
  const silent = sites.find(x => world.siteAge(x.name));
  if (silent) return { tone: 'none', glyph: 'stale',
    head: ['No report from ', { b: silent.name }, ' for ', { b: ago(world.siteAge(silent.name)) }],
    sub: ['Its last figures are shown in grey.'] };
  const degraded = world.clusters.filter(c => c.state === 'degraded');
  if (degraded.length) return { tone: 'away', glyph: 'degraded',
    since: world.since(e => e.kind === 'cluster' && e.cluster === degraded[0].name && e.state === 'degraded'),
    head: [{ b: words(degraded.slice(0, 3).map(c => c.name)) }, ' degraded; all traffic is served'],
    sub: [`${degraded[0].name}: ${degraded[0].why}.`] };
  const listeners = Object.entries(world.config?.listeners || {});
  if (t.demand < 0.05 && !world.everCalled()) { const s = all[0], e = s ? world.example(s.name) : null,
    at = listeners.find(([, l]) => l.protocol === 'http')?.[1]?.address;
    return { tone: 'none', glyph: 'idle', head: ['Ready. No request yet.'],
    sub: [`${world.clusters.filter(c =>
    c.state === 'up').length} of ${world.clusters.length} clusters answer.${listeners.length
    ? ` Listening on ${words(listeners.slice(0, 3).map(([, l]) => l.address))}.` : ''}`],
    hint: e && at
    ? `curl ${e.host === 'any.example' ? ''
    : `-H "host: ${e.host}" `}http://${String(at).replace('0.0.0.0', '127.0.0.1')}${e.path}` : null }; }
  if (t.demand < 0.05) return { tone: 'none', glyph: 'idle', head: ['Quiet: no request now'],
    sub: [`${all.length} services, ${world.clusters.length} clusters, ${sites.length} sites. All of them are up.`] };
  return { tone: 'home', glyph: 'up', head: ['All traffic is served at home'],
    sub: [`${all.length} ${all.length === 1 ? 'service'
    : 'services'}, ${world.clusters.length} clusters, ${sites.length} sites. Nothing spills, nothing is refused.`] };
}
export function Verdict({ ask }) {
  const v = verdict();
  document.title = (v.tone === 'lost' ? '\u2715 ' : v.tone === 'away' ? '\u25b3 ' : '')
    + v.head.map(p => p.b || p).join('') + ' \u00b7 tidegate';
  return html`<section class=${'verdict t-' + v.tone} aria-live="polite">
    <span class="vmark">${mark(v.glyph, 26, v.glyph === 'lock' ? 'none' : undefined)}</span>
    <div class="vtext"><h1>${rich(v.head)}</h1><p class="vsub">${rich(v.sub)}</p>
      ${v.hint ? html`<code class="hint">${v.hint}</code>` : null}</div>
    <div class="vside">
      ${v.since !== null && v.since !== undefined
      ? html`<span class="since"><b class="num">${ago(v.since)}</b><small>so far</small></span>` : null}
      ${v.why ? html`<a class="btn" href=${v.why}>Why?</a>` : null}
      ${v.ask ? html`<button class="btn primary" type="button" onClick=${ask}>Enter token</button>`
      : null}</div></section>`;
}
export function Tide() {
  const t = world.totals(), sum = t.demand || 1;
  const cell = (tone, text, v) => html`<span class=${`tl ${v / sum < 0.003 ? 'zero' : ''} tx-${tone}`}>
    <i class=${'sw bg-' + tone}></i><b class="num">${t.demand > 0.05 ? pct(v / sum) : '\u2013'}</b> ${text} <span
    class="num dim">${rate(v)}</span></span>`;
  return html`<div class="tide">
    ${bar([['home', t.home / sum], ['away', t.away / sum], ['lost', t.refused / sum]], 'tidebar')}
    <div class="tidekeys">${cell('home', 'at home', t.home)}${cell('away', 'away', t.away)}
    ${cell('lost', 'refused', t.refused)}${world.one ? html`<span class="one dim">${world.one}</span>` : null}
    </div></div>`;
}

// ---------------------------------------------------------------- map
export function map({ query, setQuery, ask, act }) {
  const sort = query.get('sort') || 'site', by = sort.replace(/^-/, ''), course = world.course(),
    gap = world.cold ? Math.round(world.age) : 0;
  return html`<${Verdict} ask=${ask} /><${Tide} />
    <div class="maprow"><section class="panel flush" aria-label="Map"><${SiteMap} />${legend()}</section>
      <${Services} /></div>
    <section class="panel timeline" aria-label="The last ten minutes">
      <${Chart} title="Requests" unit="per second" height=${136} events axis stacked fmt=${num} x=${world.xs()}
      end=${world.end + gap} span=${SPAN} gap=${gap} marks=${world.events}
      series=${[{ name: 'at home', tone: 'home', values: course.home }, { name: 'away', tone: 'away',
        values: course.away }, { name: 'refused', tone: 'lost', hatch: true, values: course.refused }]} /></section>
    <${ClusterTable} act=${act} sort=${[by, sort.startsWith('-') ? -1 : 1]}
      setSort=${([id, d]) => setQuery('sort', id === 'site' ? null : (d < 0 ? '-' : '') + id)} />`;
}
function Services() {
  const all = world.services,
    shown = all.length > 6
    ? [...all].sort((a, b) => RANK.indexOf(world.serviceState(a)) - RANK.indexOf(world.serviceState(b))).slice(0, 6)
    : all;
  return html`<section class="panel services" aria-label="Services">
    <header><h2>Services</h2><span class="hint">share by cluster</span></header><ul>${shown.map(s => {
    const f = world.figures(s), d = f.demand || 1, st = world.serviceState(s), tone = stateTone(st);
    return html`<li key=${s.name}><a class="svc" href=${'#/services/' + encodeURIComponent(s.name)}>
      <span class="markbox">${mark(st, 16)}</span><b class="nm">${s.name}</b>
      <span class="rps num">${rate(f.demand)}</span>
      ${bar([...s.order.map((c, i) => [AWAY[Math.min(i, 2)], (s.to[c] || 0) / d]), ['lost', f.refused / d]])}
        <span class=${'words tx-' + (tone === 'home' ? 'dim' : tone)}>${shares(s, f)}</span>
        <span class="p99 num">${s.p99_ms === null ? '' : `p99 ${ms(s.p99_ms)} ms`}</span></a></li>`;
  })}</ul>
    ${all.length > shown.length ? html`<p class="more"><a href="#/services">all ${all.length} services</a></p>`
    : null}</section>`;
}
const RANK = ['refused', 'degraded', 'failover', 'spill', 'dialled', 'nearest', 'idle'];
function shares(s, f) {
  if (f.demand < 0.05) return 'idle';
  if (f.refused / f.demand > 0.5) return `${pct(f.refused / f.demand)} refused`;
  const to = s.order.filter(c => (s.to[c] || 0) / f.demand > 0.004).map(c => `${pct(s.to[c] / f.demand)} ${c}`);
  return to.length === 1 && !f.refused ? `all at ${to[0].split(' ').slice(1).join(' ')}`
    : to.slice(0, 3).join(', ') + (f.refused > 0.05 ? `, ${pct(f.refused / f.demand)} refused` : '');
}
function legend() {
  const k = (m, t) => html`<span>${mark(m, 13)}${t}</span>`,
    key = (tone, t) => html`<span><i class=${'flowkey bg-' + tone}></i>${t}</span>`;
  return html`<div class="maplegend"><span class="grp">${k('up', 'up')}${k('full', 'full')}${k('degraded', 'degraded')}
    ${k('down', 'down')}${k('draining', 'by hand')}${k('stale', 'no news')}</span>
    <span class="grp">${key('home', 'nearest')}${key('away', 'away')}${key('lost', 'refused')}</span>
    <span class="grp scale">rings: distance in ms, log; width: requests/s</span></div>`;
}

// ---------------------------------------------------------------- service
function course(s, range) {
  if (range === '10m') {
    const own = world.hist.services.get(s.name) || {}, gap = world.cold ? Math.round(world.age) : 0;
    return { x: world.xs(), end: world.end + gap, gap, span: SPAN, own, ready: true };
  }
  const told = world.range(range, 'cluster=&service=' + encodeURIComponent(s.name)),
    span = range === '1h' ? 3600 : 86400;
  const own = told?.services?.[s.name] || {}, n = own.requests_per_s?.length || 0, end = told?.end || world.end;
  return { x: Array.from({ length: n }, (_, i) => end - (n - i) * (told?.step_s || 1)), end, gap: 0, span, own,
    ready: !!told };
}
// A view without a name chooses its subject once: the address is that of the subject from then on.
function settle(view, name, query) {
  const more = [...query].length ? '?' + query : '';
  location.replace(`#/${view}/${encodeURIComponent(name)}${more}`);
}
export function services({ arg, query, setQuery, act }) {
  if (!world.services.length) return blank('No service is configured.');
  const s = world.services.find(x => x.name === arg[0])
    || [...world.services].sort((a, b) => RANK.indexOf(world.serviceState(a)) - RANK.indexOf(world.serviceState(b)))[0];
  if (!arg.length) settle('services', s.name, query);
  const f = world.figures(s), st = world.serviceState(s),
    range = ['1h', '24h'].includes(query.get('range')) ? query.get('range') : '10m';
  const { x, end, gap, span, own, ready } = course(s, range), of = k => own[k] || x.map(() => null),
    all = of('requests_per_s'), ahead = range === '10m' ? AHEAD : 0;
  const part = values => all.map((v, i) => portion(values, all, i)), share = c => part(own.to?.[c] || []),
    refused = part(own.refused_per_s || []);
  // The forecast made a minute ago for this second, and the forecast for the next minute.
  const step = x.length > 1 ? x[1] - x[0] : 1, lag = Math.round(60 / step), fc = of('forecast_rps'),
    fx = ahead ? [...x, ...Array.from({ length: 60 }, (_, i) => end - gap + i)] : x;
  const forecast = fx.map((_, i) => fc[i - lag] ?? null), demand = ahead ? [...all, ...new Array(60).fill(null)] : all;
  const budget = world.budget(s.name), priced = s.order.some(c => world.priced(c)),
    early = of('p99_ms').find(v => v !== null && v !== undefined);
  const common = { span, end, gap, ahead, marks: world.events };
  const ranges = html`<div class="range" role="group" aria-label="Range">
    ${[['10m', '10 min'], ['1h', '1 h'], ['24h', '24 h']].map(([id, name]) =>
    html`<button type="button" aria-pressed=${String(id === range)}
    onClick=${() => setQuery('range', id === '10m' ? null : id)}>${name}</button>`)}
    <span class="hint">${ready ? 'arrow keys move the cursor' : 'asking\u2026'}</span></div>`;
  const set = world.set('services', s.name) || {};
  return html`${tabs('services', world.services.map(q => [q.name, world.serviceState(q)]), s.name)}
    <section class="pagehead"><div><h1>${mark(st, 22)}${s.name}</h1><p class="vsub">${sentence(s, f, st)}</p></div>
      <div class="acts">${world.token && !world.cold && s.order.length > 1 ? (s.shift
      ? html`<button class="btn" type="button"
      onClick=${() => act({ verb: 'undrain', kind: 'services', name: s.name })}>Take shift back\u2026</button>`
      : html`<button class="btn" type="button"
      onClick=${() => act({ operation: true, kind: 'shift', name: s.name })}>Shift\u2026</button>`) : null}
      <a class="btn" href=${world.whyHref(s.name)}>Why?</a></div></section>
    <div class="kpis">
      ${kpi('Demand', num(f.demand), '/s', s.forecast_rps === null ? 'forecast after 10 s of traffic'
      : `in a minute ${num(s.forecast_rps)}/s`)}
      ${kpi('At home', f.demand > 0.05 ? pct(f.home / f.demand) : '\u2013', '',
      f.demand > 0.05 ? `${rate(f.home)} of ${rate(f.demand)}` : 'no request now')}
      ${kpi('p50', ms(s.p50_ms), s.p50_ms === null ? '' : 'ms', 'head to end of response')}
        ${kpi('p99', ms(s.p99_ms), s.p99_ms === null ? '' : 'ms',
        early === undefined ? 'no sample' : `at the left edge ${ms(early)} ms`)}
      ${f.refused > 0.05 || f.errors > 0.05 ? kpi(f.refused >= f.errors ? 'Refused' : 'Errors',
        num(Math.max(f.refused, f.errors)), '/s',
        `${pct(Math.max(f.refused, f.errors) / (f.demand || 1))} of the demand`, { cls: 'bad' }) : null}
      ${kpi('Spend', priced ? usd(s.cost_usd_per_h) : '\u2013', priced ? '/h' : '',
        budget !== null ? `budget ${usd(budget)}/h` : priced ? 'no budget set' : 'no cluster has a price')}</div>
    <div class="cols"><section class="panel charts" aria-label="Time line">${ranges}
      <${Chart} key=${range + 'a'} ...${common} x=${x} title="Shares" height=${172} events stacked max=${1} fmt=${pct}
        series=${[...s.order.slice(0, 3).map((c, i) => ({ name: c, tone: AWAY[i], values: share(c) })), {
        name: 'refused', tone: 'lost', hatch: true, values: refused }]} />
      <${Chart} key=${range + 'b'} ...${common} x=${fx} title="Demand and forecast" unit="requests/s" height=${96}
        fmt=${num}
        series=${[{ name: 'demand', tone: 'ink', fill: true, values: demand, ahead: true, now: last(all) }, {
        name: 'forecast', tone: 'info', dash: true, values: forecast, ahead: true,
        now: last(forecast.slice(0, all.length)) }]} />
      <${Chart} key=${range + 'c'} ...${common} x=${x} title="Latency" unit="ms" height=${96} fmt=${ms}
        tick=${v => num(v)}
        series=${[{ name: 'p50', tone: 'sea2', values: of('p50_ms') }, { name: 'p99', tone: 'ink',
        values: of('p99_ms') }]} />
      <${Chart} key=${range + 'd'} ...${common} x=${x} title="Refused and errors" unit="per second" height=${66}
        fmt=${few} tick=${v => few(v)}
        series=${[{ name: 'refused', tone: 'lost', fill: true, values: of('refused_per_s') }, { name: 'errors',
        tone: 'info', values: of('errors_per_s') }]} />
      <${Chart} key=${range + 'e'} ...${common} x=${x} title="Spend" unit="$/h" height=${92} axis
        fmt=${v => v.toFixed(2)} tick=${v => '$' + (v >= 10 ? Math.round(v) : +v.toFixed(2))}
        series=${[{ name: 'spend', tone: 'away', fill: true, values: of('usd_per_hour') }]}
        limits=${budget !== null ? [{ y: budget, text: `budget ${usd(budget)}/h` }] : []} />
    </section><div class="stack">${order(s, f)}${budgetPanel(s, budget)}
      ${section('Rules', null,
      rules([['data', words(set.data || []) || 'any'], ['needs', words(set.needs || []) || 'nothing'],
      ['strategy', set.strategy || 'nearest'], ['endpoints', plain(set.endpoint_policy || 'least_wait')],
      set.retry ? ['retries', `${set.retry.retries ?? 1}, within ${pct(set.retry.budget ?? 0.2)} of requests`] : null,
      ['timeout', `${set.timeout || '15s'} to the response head`], ['priority', String(set.priority ?? 5)]]))}</div>
      </div>`;
}
// The part of `values` in `all` over the three seconds that end with i: a second with two requests is not significant.
function portion(values, all, i) {
  if (all[i] === null || all[i] === undefined) return null;
  let some = 0, whole = 0;
  for (let k = Math.max(0, i - 2); k <= i; k++) { some += values[k] || 0; whole += all[k] || 0; }
  return whole > 0 ? Math.min(1, some / whole) : null;
}
const last =
  values => { for (let i = values.length - 1; i >= 0 && i > values.length - 5;
  i--) if (values[i] !== null && values[i] !== undefined) return values[i]; return null; };
function order(s, f) {
  const set = world.set('services', s.name), missing = (set?.clusters || []).filter(c => !s.order.includes(c));
  return section('Order', html`<span class="hint">nearest first</span>`,
    html`<ol class="order">${s.order.map((c, i) => {
    const cl = world.byName.get(c), st = world.stateOf(cl), part = f.demand > 0.05 ? (s.to[c] || 0) / f.demand : null;
    return html`<li key=${c}><span class="rank num">${i + 1}</span>${mark(st, 16)}
      <a class="nm" href=${'#/clusters/' + encodeURIComponent(c)}>${c}</a>
      <span class="dist num">${cl?.distance_ms === null ? '\u2013' : ms(cl?.distance_ms) + ' ms'}</span>
      ${bar([[AWAY[Math.min(i, 2)], part || 0]])}<b class="share num">${pct(part)}</b>
      <span
      class=${'words ' + (st === 'full' || st === 'degraded' ? 'tx-away' : st === 'down' ? 'tx-lost' : st === 'draining'
      || st === 'dialled' ? 'tx-hand' : '')}>${cl?.why}</span></li>`;
  })}
    ${missing.map(c => html`<li key=${c} class="barred"><span class="rank num">\u2013</span>${mark('maynot', 16)}
    <a class="nm" href=${'#/clusters/' + encodeURIComponent(c)}>${c}</a><span class="dist"></span>
    <span class="words tx-rule">${barred(s, c)}</span></li>`)}</ol>`);
}
function barred(s, c) {
  const data = world.set('services', s.name)?.data || [], cl = world.set('clusters', c) || {},
    miss = data.filter(d => !(cl.accepts || []).includes(d));
  if (miss.length) return `does not accept ${words(miss)} data`;
  const needs = (world.set('services', s.name)?.needs || []).filter(n => !(cl.offers || []).includes(n));
  return needs.length ? `does not offer ${words(needs)}` : 'may not serve it';
}
// The length of a gauge: the budget is at 80 %.
const spentPart = (s, budget) => `${s.cost_usd_per_h > 0 ? Math.min(100, 80 * s.cost_usd_per_h / budget) : 0}%`;
function budgetPanel(s, budget) {
  const left = s.budget_left_usd, full = budget / 12;
  return section('Budget', budget !== null ? html`<span class="hint num">${usd(budget)}/h</span>` : null,
    budget !== null ? html`<div class="budget"><div class=${'gauge ' + (s.cost_usd_per_h > budget ? 'over' : '')}>
    <span class="bg-away" style=${{ '--w': spentPart(s, budget) }}></span>
    <i class="limit"></i></div>
    <dl><dt>spent now</dt><dd class="num">${usd(s.cost_usd_per_h)}/h</dd><dt>left now</dt>
      <dd class="num">
      ${s.cost_usd_per_h > budget ? `${usd(s.cost_usd_per_h - budget)}/h over`
      : usd(budget - s.cost_usd_per_h) + '/h'}</dd><dt>bucket, 5 min</dt>
      <dd class="num">
      ${left === null ? '\u2013' : `${left < 0 ? '\u2212' : ''}${usd(Math.abs(left))} of ${usd(full)}`}</dd></dl>
    <p class="note">
      ${left !== null && left <= 0
      ? 'Empty: spill to priced clusters has stopped, and the excess waits in the queue at home.'
      : 'When the bucket is empty, spill to priced clusters stops, and the excess waits in the queue at home.'}</p>
      </div>` : html`<p class="note">No budget: the cost of spill is not limited.</p>`);
}
function sentence(s, f, st) {
  const home = world.byName.get(world.home(s)),
    others = s.order.slice(1).filter(c => f.demand > 0 && (s.to[c] || 0) / f.demand > 0.004).map(c =>
    `${c} takes ${pct(s.to[c] / f.demand)}`);
  if (st === 'idle') return 'No request now.';
  if (st === 'refused'
    || (st === 'degraded'
    && f.refused > f.errors)) return `${rate(f.refused)} refused. ${home ? `${home.name}: ${home.why}.` : ''}`;
  if (st === 'degraded') return `${pct(f.errors / f.demand)} of the answers are errors.`;
  if (s.shift) return `A shift by hand: ${s.shift.percent}\u202f% of ${s.shift.from} goes to ${s.shift.to}${
    s.shift.rests ? ', which is down: the shift rests' : ''}.`;
  if (others.length && home) return `${others.join(', ')}. ${home.name}: ${home.why}.`;
  return home ? `${home.name}: ${home.why}.` : '';
}
const blank = text => html`<section class="panel blank">${mark('idle', 22)}<p><b>${text}</b></p></section>`;

// ---------------------------------------------------------------- cluster
export function clusters({ arg, query, act }) {
  const ord = ['down', 'degraded', 'full', 'stale', 'draining', 'dialled', 'up'];
  if (!world.clusters.length) return blank('No cluster is configured.');
  const c = world.byName.get(arg[0])
    || [...world.clusters].sort((a, b) => ord.indexOf(world.stateOf(a)) - ord.indexOf(world.stateOf(b)))[0];
  if (!arg.length) settle('clusters', c.name, query);
  const st = world.stateOf(c), own = world.hist.clusters.get(c.name) || {},
    of = k => own[k] || new Array(SPAN).fill(null), set = world.set('clusters', c.name) || {},
    users =
    world.services.filter(s => s.order.includes(c.name)
    || (world.set('services', s.name)?.clusters || []).includes(c.name));
  const peers = world.sites().find(x => x.name === c.site)?.clusters || [],
    gap = world.cold ? Math.round(world.age) : 0, hold = c.tolerates_ms, xs = world.xs(),
    common = { x: xs, end: world.end + gap, gap, span: SPAN, marks: world.events };
  const list = world.clusters.length > 14
    ? [...new Set([c, ...peers, ...world.clusters.filter(x => world.stateOf(x) !== 'up')])].slice(0, 14)
    : world.clusters;
  const up = c.endpoints.filter(e => e.state === 'up').length, stated = set.capacity?.concurrent,
    gib = world.price(c.name);
  const strip =
    Array.from({ length: 60 },
    (_, i) => { const k = i * 10, cells = Array.from({ length: 10 }, (_, j) => world.stateAt(c.name, k + j)),
    worst = ['down', 'degraded', 'full', 'draining', 'up', 'none'].find(w => cells.includes(w));
    return html`<i class=${'hc-' + worst} title=${`${clock(xs[k] || 0)} ${stateWord(worst)}`}></i>`; });
  return html`${tabs('clusters', list.map(x => [x.name, world.stateOf(x)]), c.name)}
    <section class="pagehead"><div><h1>${mark(st, 22)}${c.name}</h1><p class="vsub">${upper(c.why)}.</p></div>
      ${world.token && !world.cold
      ? html`<div class="acts">
      ${c.site_dial_percent < 100 ? html`<a class="btn" href=${siteHref(c.site)}>Dialled with ${c.site}</a>`
      : c.dial_percent < 100
      ? html`<button class="btn" type="button"
      onClick=${() => act({ verb: 'undrain', kind: 'clusters', name: c.name })}>Undrain\u2026</button>`
      : html`<button class="btn" type="button"
      onClick=${() => act({ verb: 'drain', kind: 'clusters', name: c.name })}>Drain\u2026</button>`}
      <button class="btn" type="button"
      onClick=${() => act({ verb: 'dial', kind: 'clusters', name: c.name })}>Dial\u2026</button></div>`
      : null}</section>
    <div class="kpis">
      ${kpi('Distance', ms(c.distance_ms), c.distance_ms === null ? '' : 'ms',
      html`<a class="plain" href=${siteHref(c.site)}>${c.site}</a>, ${c.kind}`)}
      ${kpi('Service time', ms(c.service_ms), c.service_ms === null ? '' : 'ms', 'without a queue')}
      ${kpi('Queue', ms(c.queue_ms), c.queue_ms === null ? '' : 'ms',
        hold ? `may hold ${ms(hold)} ms` : 'nothing to compare with yet', { cls: st === 'full' ? 'hot' : '',
        more: bullet(c.queue_ms, hold) })}
      ${kpi('In flight', num(c.in_flight), c.ceiling ? `of ${c.ceiling}` : '',
        c.ceiling ? (c.ceiling < stated ? 'its part of the site\u2019s ceiling' : 'stated ceiling')
        : c.learned_concurrent ? `about ${num(c.learned_concurrent)} at once, learned` : 'no stated ceiling')}
        ${kpi('Requests', num(world.rate(c.name)), '/s',
        world.everywhere(c.name) === null ? 'from this proxy' : html`from this proxy; ${fromAll(c)}`)}
        ${kpi('Success', c.success_ratio === null ? '\u2013' : success(c.success_ratio), '',
        c.success_ratio === null ? 'no exchange yet' : 'of its exchanges')}</div>
    <div class="cols"><div class="stack">
      ${section('Endpoints', html`<span class="hint num">${up} of ${c.endpoints.length} usable</span>`,
        html`<div class="scroll" tabindex="0" role="region" aria-label="Endpoints, table">
        <table class="dense">
        <thead>
        <tr>
        ${[['Address', 'l'], ['State', 'l'], ['Distance', 'r'], ['Response', 'r'], ['In flight', 'r'],
        ['Requests', 'r'], ['Last error', 'l']].map(([t, a]) => html`<th scope="col" class=${a}>${t}</th>`)}</tr>
        </thead>
        <tbody>
        ${c.endpoints.slice(0, 200).map(e => html`<tr key=${e.address} class=${'s-' + e.state}>
        <th class="mono" scope="row">${e.address}</th>
        <td class="state"><span class="markbox">${mark(e.state, 14)}</span><span>${stateWord(e.state)}</span></td>
        <td class="r num">${msT(e.rtt_ms)}</td>
        <td class="r num">${c.service_ms === null ? '\u2013' : msT(e.service_ms)}</td>
        <td class="r num">${num(e.in_flight)}</td><td class="r num">${rate(e.requests_per_s)}</td>
        <td class="err" title=${e.last_error || null}>${lastError(e)}</td></tr>`)}</tbody></table></div>
        ${c.endpoints.length > 200 ? html`<p class="note">${c.endpoints.length - 200} more are not shown.</p>` : null}
        ${c.endpoints.length ? null : html`<p class="note">None: ${plain(c.cause) || 'not discovered yet'}.</p>`}`)}
      ${section('Health', html`<span class="hint">10 s a cell</span>`,
        html`<div class="stripwrap"><div class="strip" role="img" aria-label="Health in the last ten minutes">
        ${strip}</div><div class="striptime"><span class="num">${clock(xs[0] || 0, false)}</span>
        <span class="num">${clock(xs[300] || 0, false)}</span><span>now</span></div></div>
        <${Chart} ...${common} title="Requests" unit="per second" height=${84} events fmt=${num}
          series=${[{ name: 'requests', tone: 'ink', fill: true, values: of('requests_per_s') }]} />
        <${Chart} ...${common} title="Queue" unit="ms" height=${84} fmt=${ms}
          tick=${v => v < 10 ? String(+v.toFixed(1)) : num(v)}
          series=${[{ name: 'queue', tone: 'away', fill: true, values: of('queue_ms') }, { name: 'may hold',
          tone: 'info', dash: true, ref: true, values: of('tolerates_ms') }]} />
        <${Chart} ...${common} title="Service time and distance" unit="ms" height=${84} axis fmt=${ms}
          tick=${v => v < 10 ? String(+v.toFixed(1)) : num(v)}
          series=${[{ name: 'service', tone: 'ink', values: of('service_ms') }, { name: 'distance', tone: 'sea2',
          values: of('distance_ms') }]} />`)}
    </div><div class="stack">
      ${section('Serves', null,
        html`<ul class="mini">
        ${users.map(s => s.order.includes(c.name)
        ? html`<li key=${s.name}>${mark(world.serviceState(s), 14)}
        <a href=${'#/services/' + encodeURIComponent(s.name)}>${s.name}</a>
        <span class="r num">${rate(s.to[c.name] || 0)}</span></li>`
        : html`<li key=${s.name}>${mark('maynot', 14)}
        <a href=${'#/services/' + encodeURIComponent(s.name)}>${s.name}</a>
        <span class="r">may not: ${barred(s, c.name)}</span></li>`)}</ul>
        ${users.length ? null : html`<p class="note">No service uses it.</p>`}`)}
      ${section('Ceilings', null,
        rules([['queue', hold ? `may hold ${ms(hold)} ms` : 'not known yet'],
        ['stated', stated ? `${stated} in flight` : 'none'],
        c.ceiling && c.ceiling !== stated ? ['part of it', `${c.ceiling} for this proxy now`] : null,
        ['learned', c.learned_concurrent ? `about ${num(c.learned_concurrent)} at once` : 'not full yet'],
        ['when full', c.learned_rps ? `${rate(c.learned_rps)} to this proxy` : '\u2013'],
        ['connections', num(set.limits?.connections)],
        ['waiting', set.limits?.pending === undefined ? '\u2013' : num(set.limits.pending)],
        ['dial',
        `${c.dial_percent}\u202f%${c.site_dial_percent < 100 ? ', by its site' : c.dial_percent === (set.dial ?? 100)
        ? ', from the file' : ', by hand'}`, c.dial_percent < 100 ? 'tx-hand' : '']]))}
      ${section('Probe and rules', null,
        rules([['probe',
        set.probe ? `${set.probe.kind}${set.probe.path ? ' ' + set.probe.path : ''}, every ${set.probe.interval}`
        : '\u2013'], ['cause', c.cause ? plain(c.cause) : 'none', c.state === 'down' ? 'tx-lost' : ''],
        ['accepts', words(set.accepts || [])], ['offers', words(set.offers || []) || 'nothing'],
        ['price', gib.gib || gib.million ? `${usd(gib.gib)} a GiB, ${usd(gib.million)} a million` : 'nothing'],
        ['failback', c.awaits_undrain ? 'manual: waits for an undrain'
        : c.held_for_s ? `${c.failback}, held out for another ${ago(c.held_for_s)}` : c.failback,
        c.awaits_undrain || c.held_for_s ? 'tx-hand' : ''],
        ['environment', c.environment]]))}
    </div></div>`;
}
// Requests/s from all sites; grey with its age where a site that is not heard is part of the sum.
function fromAll(c) {
  const { sum, age } = world.everywhereOf([c]);
  return html`<span class=${age ? 'tx-none' : ''}>${num(sum)}/s from all sites${age ? `, a part ${ago(age)} old`
    : ''}</span>`;
}
// The last failure of an endpoint in words, and how long ago it was: an old one is quiet.
function lastError(e) {
  if (!e.last_error) return '\u2013';
  const age = e.last_error_age_s === null || e.last_error_age_s === undefined ? null : e.last_error_age_s + world.age;
  return html`<span class=${age !== null && age > 60 && e.state === 'up' ? 'dim' : ''}>
    ${e.last_error_text || plain(e.last_error)}</span>
    ${age === null ? null : html`<small class="num"> ${ago(age)} ago</small>`}`;
}
const upper = text => text ? text[0].toUpperCase() + text.slice(1) : '';

// ---------------------------------------------------------------- decisions
export class decisions extends Component {
  constructor() { super(); this.state = { all: null, paused: false }; }
  componentDidMount() { this.ask();
    this.timer = setInterval(() => { if (!document.hidden && !this.state.paused) this.ask(); }, 3000); }
  componentWillUnmount() { clearInterval(this.timer); }
  async ask() { const told = await get('api/v1/decisions'); if (told.ok) this.setState({ all: told.body }); }
  render({ query, setQuery }, { all, paused }) {
    const only = query.get('reason'), kinds = [...new Set((all || []).map(d => d.reason))];
    const kind = d => !d.cluster ? 'refused' : ['spill', 'failover', 'dial'].includes(d.reason)
      ? (d.reason === 'dial' ? 'dialled' : d.reason) : d.reason === 'returning' ? 'failover'
      : ['nearest', 'affinity', 'only', 'panic', 'hedge'].includes(d.reason) ? 'idle' : 'refused';
    // Equal decisions within ten seconds are one line, with their number and their time span.
    const rows = [], open = new Map();
    for (const d of all || []) {
      if (only && d.reason !== only) continue;
      const same = JSON.stringify([d.service, d.cluster, d.reason, d.rejected]), t = Date.parse(d.time),
        was = open.get(same);
      if (was && was.first - t < 10000) { was.count += 1; was.first = t; was.request_id ||= d.request_id; continue; }
      if (rows.length === 200) break;
      const row = { ...d, count: 1, first: t };
      rows.push(row); open.set(same, row);
    }
    return html`<section class="pagehead"><div><h1>Decisions</h1><p
      class="vsub">The last exchanges that did not go to the nearest cluster: a sample of at most a hundred a
      second.</p>
      </div>
      ${all?.length ? html`<button class="btn" type="button" aria-pressed=${String(paused)}
        onClick=${() => this.setState({ paused: !paused })}>${paused ? 'Resume' : 'Pause'}</button>` : null}</section>
      ${all?.length ? html`<div class="filters" role="group" aria-label="Reason">
        ${[null,
        ...kinds].map(k => html`<button type="button" aria-pressed=${String(k === only)}
        onClick=${() => setQuery('reason', k)}>${k || 'all'} <span class="num dim">
        ${all.filter(d => !k || d.reason === k).length}</span></button>`)}</div>` : null}
      ${all === null ? html`<div class="skel s2"></div>` : rows.length
        ? html`<section class="panel tablewrap">
        <div class="scroll" tabindex="0" role="region" aria-label="Decisions, table">
        <table class="dense decisions">
        <thead>
        <tr>
        ${[['Time', 'l'], ['', 'r'], ['Service', 'l'], ['Went to', 'l'], ['Reason', 'l'], ['Because', 'l'],
        ['Last request', 'l']].map(([t, a]) => html`<th class=${a} scope="col">${t}</th>`)}</tr></thead>
        <tbody>
        ${rows.map(d => { const k = kind(d), t = Date.parse(d.time) / 1000;
        return html`<tr key=${d.time + d.request_id} class=${'k-' + k}>
        <td class="num dim when">
        ${d.count > 1 && clock(d.first / 1000) !== clock(t) ? `${clock(d.first / 1000)} \u2013 ${clock(t)}`
        : clock(t)}</td><td class="r num times">${d.count > 1 ? `${d.count}\u00d7` : ''}</td>
        <td class="svcname"><a class="plain" href=${world.whyHref(d.service)}>${d.service}</a></td>
        <td class="went">
        ${d.cluster
        ? [mark('up', 12, k === 'idle' ? 'home' : k === 'dialled' ? 'hand' : k === 'refused' ? 'lost' : 'away'),
        d.cluster] : [mark('down', 13), 'refused']}</td><td class="reasonc">${chip(k, d.reason)}</td>
        <td class="because">
        ${d.rejected.map(r => r.replace(/:([^:]*)$/, (_, w) => ': ' + plain(w))).join('; ') || '\u2013'}</td>
        <td class="req">
        ${d.host
        ? html`<a href=${d.request_id ? pastHref(d.request_id) : liveHref(d)}
        title=${d.request_id ? `why, at that time: ${d.request_id}` : 'why, now'}><b>${d.method}</b> ${d.host}
        <span class="path">${d.path}</span></a>` : '\u2013'}</td></tr>`; })}</tbody></table></div></section>`
        : html`<section class="panel blank">${mark('up', 22)}
          <p><b>Nothing to explain.</b> Every exchange so far went to the nearest cluster.</p></section>`}`;
  }
}

// ---------------------------------------------------------------- cost
export function cost({ query, setQuery }) {
  const t = world.totals(), range = query.get('range') === '1h' ? '1h' : '24h',
    told = world.range(range, 'cluster=&service=*&figures=usd_per_hour'), span = range === '1h' ? 3600 : 86400;
  const list = world.services.map(s => ({ s, values: told?.services?.[s.name]?.usd_per_hour || [] })),
    step = told?.step_s || 1, n = Math.max(0, ...list.map(q => q.values.length)), end = told?.end || world.end;
  const sum = q => q.values.reduce((a, v) => a + (v || 0), 0) * step / 3600,
    spenders = list.filter(q => sum(q) > 0 || q.s.cost_usd_per_h > 0).sort((a, b) => sum(b) - sum(a)),
    total = list.reduce((a, q) => a + sum(q), 0),
    known = Math.max(0, ...list.map(q => q.values.filter(v => v !== null).length)) * step;
  const tones = ['away', 'away2', 'info'], x = Array.from({ length: n }, (_, i) => end - (n - i) * step),
    fill = q => { const v = q.values.slice(); while (v.length < n) v.unshift(null); return v; };
  const rest = spenders.slice(2),
    series = spenders.slice(0, 2).map((q, i) => ({ name: q.s.name, tone: tones[i], values: fill(q) }));
  if (rest.length) series.push({ name: `${rest.length} more`, tone: 'info',
    values: x.map((_, i) => rest.reduce((a, q) => a + (fill(q)[i] || 0), 0)) });
  const budgets = world.services.filter(s => world.budget(s.name) !== null),
    rows = world.services.flatMap(s => s.order.filter(c => world.priced(c)).map(c => ({ s, c })));
  const limit = budgets.length === 1
    ? [{ y: world.budget(budgets[0].name),
    text: `budget of ${budgets[0].name} ${usd(world.budget(budgets[0].name))}/h` }] : [];
  const perSite =
    world.sites().map(q => { const p = q.clusters.map(c => world.price(c.name)).find(p => p.gib || p.million);
    return [q.name, p ? `${usd(p.gib)} a GiB, ${usd(p.million)} a million` : 'nothing']; });
  const bill = world.costs(), paid = (bill?.services || []).flatMap(s =>
    s.clusters.filter(c => c.requests > 0 || c.bytes > 0).map(c => ({ s, c })));
  return html`<section class="pagehead"><div><h1><span class="num">${usd(t.usd)}</span><small> an hour now</small></h1>
    <p class="vsub">
    ${t.away > 0.5
    ? `${rate(t.away)} are served away from home. ${t.usd > 0
    ? 'At home they would cost nothing, but would wait in the queue.' : 'None of these clusters has a price.'}`
    : 'All requests are served at home, where they have no price.'}</p></div></section>
    <div class="kpis">
      ${kpi(range === '1h' ? 'Last hour' : 'Last 24 h', told ? usd(total) : '\u2013', '',
      known < span * 0.98 ? `of ${ago(known)} recorded` : 'all of it recorded')}
      ${kpi('At this pace', usd(t.usd * 730), '', 'a month of 730 h')}
      ${kpi('Away', rate(t.away), '', t.demand > 0.05 ? `${pct(t.away / t.demand)} of the demand` : 'no request now')}
      ${budgets.slice(0, 2).map(s => kpi(`${s.name}, left`, usd(Math.max(0, world.budget(s.name) - s.cost_usd_per_h)),
      '/h', s.budget_left_usd !== null && s.budget_left_usd <= 0 ? 'bucket empty: spill has stopped'
      : `of ${usd(world.budget(s.name))}`))}</div>
    <div class="cols">
      <div class="stack">
      ${section(range === '1h' ? 'Spend, 1 h' : 'Spend, 24 h',
      html`<div class="range flat" role="group" aria-label="Range">
      ${[['1h', '1 h'],
      ['24h', '24 h']].map(([id, name]) => html`<button type="button" aria-pressed=${String(id === range)}
      onClick=${() => setQuery('range', id === '24h' ? null : id)}>${name}</button>`)}</div>`,
      html`<div class="daybox">
      ${series.length
      ? html`<${Chart} key=${range} title="All services" unit="$/h" height=${200} stacked axis events x=${x} end=${end}
      span=${span} marks=${world.events} fmt=${v => v.toFixed(2)}
      tick=${v => '$' + (v >= 10 ? Math.round(v) : +v.toFixed(2))} series=${series} limits=${limit} />`
      : html`<p class="note">${told ? 'Nothing was spent in this time.' : 'Asking\u2026'}</p>`}</div>`)}
      ${section('Who spends', html`<span class="hint">now</span>`,
        rows.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Spend, table">
        <table class="dense">
        <thead>
        <tr>
        ${[['Service', 'l'], ['Cluster', 'l'], ['Requests/s', 'r'], ['$/GiB', 'r'], ['$/million', 'r'], ['$/h', 'r'],
        ['Share', 'l']].map(([h, a]) => html`<th class=${a} scope="col">${h}</th>`)}</tr></thead>
        <tbody>
        ${rows.slice(0, 100).map(({ s, c }) => { const p = world.price(c), all = world.rate(c),
        mine = all > 0 ? (world.byName.get(c)?.cost_usd_per_h || 0) * (s.to[c] || 0) / all : 0;
        return html`<tr key=${s.name + '/' + c}>
        <th scope="row"><a href=${'#/services/' + encodeURIComponent(s.name)}>${s.name}</a></th>
        <td><a class="plain" href=${'#/clusters/' + encodeURIComponent(c)}>${c}</a></td>
        <td class="r num">${num(s.to[c] || 0)}</td><td class="r num">${p.gib.toFixed(2)}</td>
        <td class="r num">${p.million.toFixed(2)}</td><td class="r num"><b>${mine.toFixed(2)}</b></td>
        <td class="l wide">${bar([['away', t.usd > 0 ? mine / t.usd : 0]])}</td></tr>`; })}</tbody></table></div>`
        : html`<p class="note">No cluster has a price: see sites.*.cost and clusters.*.cost.</p>`)}
      ${section('Since the start', html`<span class="hint">${bill ? `${usd(bill.usd)} in ${ago(bill.seconds)}` : ''}</span>`,
        paid.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Since the start, table">
        <table class="dense"><thead><tr>
        ${[['Service', 'l'], ['Cluster', 'l'], ['Requests', 'r'], ['Bytes', 'r'], ['A request', 'r'],
        ['Cost', 'r']].map(([h, a]) => html`<th class=${a} scope="col">${h}</th>`)}</tr></thead>
        <tbody>
        ${paid.slice(0, 100).map(({ s, c }) => html`<tr key=${s.name + '/' + c.name}>
        <th scope="row"><a href=${'#/services/' + encodeURIComponent(s.name)}>${s.name}</a></th>
        <td><a class="plain" href=${'#/clusters/' + encodeURIComponent(c.name)}>${c.name}</a></td>
        <td class="r num">${num(c.requests)}</td><td class="r num">${size(c.bytes)}</td>
        <td class="r num">${size(c.bytes_per_request)}</td><td class="r num"><b>${usd(c.usd)}</b></td></tr>`)}</tbody></table></div>
        <p class="note">Not included: ${(bill.not_included || []).join('; ')}.</p>`
        : html`<p class="note">${bill ? 'No request yet.' : 'Asking\u2026'}</p>`)}</div>
      <div class="stack">
        ${section('Budgets', null,
        budgets.length
        ? budgets.map(s => { const b = world.budget(s.name);
        return html`<div class="budget"><div class="bl"><a href=${'#/services/' + encodeURIComponent(s.name)}>
        ${s.name}</a><span class="num">${usd(s.cost_usd_per_h)} of ${usd(b)}/h</span></div>
        <div class=${'gauge ' + (s.cost_usd_per_h > b ? 'over' : '')}>
        <span class="bg-away" style=${{ '--w': spentPart(s, b) }}></span>
        <i class="limit"></i></div></div>`; }) : html`<p class="note">No service has one.</p>`)}
        ${section('Prices', html`<span class="hint">from the file</span>`, rules(perSite.map(([k, v]) => [k, v])),
        html`<p class="note">Bytes from cluster to proxy. Fixed costs are not included.</p>`)}</div></div>`;
}

export function loading() {
  return html`<${Verdict} /><div class="skel s0"></div>
    <div class="maprow"><div class="skel s1"></div><div class="skel s1"></div></div><div class="skel s2"></div>`;
}
