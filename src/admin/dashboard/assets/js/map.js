// The sites map: this proxy in the middle, sites at fixed angles, radius by the logarithm of the distance, width of a
// flow by requests/s. There is no force layout, so that a site stays where the reader has learned to look.

import { html, Component, ago, shape, rate, ms, num, stateTone, words } from './ui.js';
import { world } from './world.js';
import { siteHref } from './site-acts.js';

const RINGS = [1, 3, 10, 30, 100], FAR = 100, LABELLED = 4;
// The distance that is drawn changes only when the measured one differs by more than a sixth: jitter moves nothing.
const settled = new Map();
function steady(key, d) {
  if (d === null || d === undefined) return settled.get(key) ?? null;
  const was = settled.get(key);
  if (was === undefined || Math.abs(Math.log(d / was)) > 0.16) settled.set(key, Math.max(0.05, d));
  return settled.get(key);
}
// The place of each other site on the circle, kept while the page is open: a site that appears is added at the end of a
// side, and the place of one that is gone stays empty.
const places = [];
const placeOf = name => { const at = places.indexOf(name); return at < 0 ? places.push(name) - 1 : at; };
// Angles of k sites on the right side, from top to bottom; the left side mirrors them.
function angles(k, slim) {
  if (k === 1) return [slim ? -54 : -17];
  if (k === 2) return slim ? [-62, -20] : [-40, 2];
  const from = slim ? -64 : k > 4 ? -68 : -58, to = slim ? 8 : k > 4 ? 58 : 30;
  return Array.from({ length: k }, (_, i) => from + (to - from) * i / (k - 1));
}

export class SiteMap extends Component {
  constructor() { super(); this.state = { w: 0 }; }
  componentDidMount() {
    this.sizer =
    new ResizeObserver(() => { const w = Math.round(this.box.clientWidth);
    if (w && w !== this.state.w) this.setState({ w }); }); this.sizer.observe(this.box); }
  componentWillUnmount() { this.sizer.disconnect(); }

  // The position of every site and cluster.
  plan(W, H, slim, sites) {
    const cx = W / 2, cy = slim ? 232 : H * 0.5 + 8, reach = slim ? W / 2 - 14 : W / 2 - 100,
      r1 = slim ? 92 : Math.min(168, reach * 0.43);
    const kx = (reach - r1) / 2, flat = slim ? 1.02 : 0.50;
    const R = d => Math.min(reach, Math.max(26, r1 + kx * Math.log10(Math.max(0.25, d))));
    const P = (d, a) => [cx + R(d) * Math.cos(a * Math.PI / 180), cy + R(d) * flat * Math.sin(a * Math.PI / 180)];
    const count = places.length, right = Math.ceil(count / 2), many = count > 6;
    const on = [angles(right, slim), angles(count - right, slim)];
    const placed = sites.map(x => {
      let a0 = 90;
      if (!x.here) { const i = placeOf(x.name), side = i % 2; a0 = on[side][Math.floor(i / 2)];
        if (side) a0 = -180 - a0; }
      // Clusters of this site are less than a millisecond away; they are drawn at 0.6 ms at least: their names fit.
      const near = d => d !== null && x.here ? Math.max(0.6, d) : d;
      const ds = x.clusters.map(c => near(steady(c.name, c.distance_ms))).filter(d => d !== null),
        d0 = ds.length ? ds.reduce((a, b) => a + b, 0) / ds.length : null;
      // Never measured: at the outermost ring, dashed.
      const far = d0 ?? FAR, dense = x.clusters.length > LABELLED || many;
      const gap = x.here ? (slim ? 62 : 46) : (slim ? 34 : 17);
      const spots = dense ? []
        : x.clusters.map((c, i) =>
        ({ c, d: near(steady(c.name, c.distance_ms)) ?? far,
        a: a0 + (x.clusters.length === 1 ? 0 : (i - (x.clusters.length - 1) / 2) * gap) * (x.here ? -1 : 1) }));
      return { x, a0, d0, far, dense, spots, right: Math.cos(a0 * Math.PI / 180) > 0 };
    });
    return { cx, cy, R, P, flat, placed, many };
  }

  curve(cx, cy, x, y, here) {
    const dx = x - cx, dy = y - cy, len = Math.hypot(dx, dy) || 1, bend = here ? 0 : (dx > 0 ? -1 : 1) * len * 0.1;
    return `M${cx} ${cy}Q${(cx + dx * 0.5 + dy / len * bend).toFixed(1)} ${(cy
      + dy * 0.5 - dx / len * bend).toFixed(1)} ${x.toFixed(1)} ${y.toFixed(1)}`;
  }
  flow(key, d, value, tone, bed, width, quick, href, label) {
    const w = value < 0.05 ? 0 : Math.max(2.2, value * width);
    const parts = [html`<path d=${d} class=${'bed ' + bed} />`];
    if (w) parts.push(html`<path d=${d} class=${`band st-${tone}`} stroke-width=${w.toFixed(1)} />`,
      html`<path d=${d} class=${'current' + (quick ? ' quick' : '')}
      stroke-width=${Math.max(1.4, Math.min(4, w * 0.34)).toFixed(1)} />`);
    // A click on a flow explains it.
    return html`<a key=${key} class="flowlink" href=${href} aria-label=${label}>
      <path d=${d} class="grip" />${parts}<title>${label}</title></a>`;
  }
  away(name) {
    return world.services.some(s => world.home(s) !== name && (s.to[name] || 0) > 0.05
    && (s.to[name] || 0) > 0.004 * (s.requests_per_s || 1)); }
  // The address that explains a flow to a cluster or to a site: of the service that sends most to it.
  why(kind, name) { const most = world.mostTo(kind, name); return most ? world.whyHref(most) : '#/why'; }
  // Of the service of which most is refused.
  whyRefused() {
    const s = [...world.services].sort((a, b) => b.refused_per_s - a.refused_per_s)[0];
    return s ? world.whyHref(s.name) : '#/why';
  }

  island(p, at) {
    const { x, spots, far, a0 } = p, st = world.siteState(x),
      cls = 's-' + (st === 'down' ? 'down' : st === 'stale' ? 'stale' : 'up');
    if (p.dense) {
      const [px, py] = at.P(far, a0), r = this.radius(x, at.many);
      return html`<g key=${x.name} class=${'isle round ' + cls}><circle class="rim" cx=${px} cy=${py} r=${r + 1} />
        <circle class="land" cx=${px} cy=${py} r=${r} /><circle class="tex" cx=${px} cy=${py} r=${r} /></g>`;
    }
    if (!spots.length) return null;
    const pad = x.here ? 0.6 : 0.4, lo = Math.min(...spots.map(s => s.a)) - pad,
      hi = Math.max(...spots.map(s => s.a)) + pad, arc = [];
    for (let i = 0; i <= 24; i++) arc.push(at.P(far, lo + (hi - lo) * i / 24).map(v => v.toFixed(1)).join(' '));
    const d = 'M' + arc.join('L');
    return html`<g key=${x.name} class=${'isle ' + cls}><path class="rim" d=${d} /><path class="land" d=${d} />
      <path class="tex" d=${d} /></g>`;
  }
  radius(x, many) { const n = x.clusters.length;
    return many ? 11 + Math.min(10, Math.sqrt(n) * 1.4) : Math.min(46, 17 + Math.sqrt(n) * 4); }

  // A site with many clusters: a grid of marks without names, the worst state first.
  field(p, at) {
    const { x, far, a0 } = p, [px, py] = at.P(far, a0), r = this.radius(x, at.many), st = world.siteState(x),
      n = x.clusters.length;
    const rank = { down: 0, degraded: 1, full: 2, draining: 3, dialled: 3, stale: 4, up: 5 },
      all = x.clusters.map(c => world.stateOf(c)).sort((a, b) => rank[a] - rank[b]);
    const cols = Math.max(1, Math.ceil(Math.sqrt(n * 1.1))), step = Math.min(13, 1.55 * r / cols), size = step * 0.82,
      rows = Math.ceil(n / cols);
    const dots =
      all.map((s, i) => html`<svg x=${px - cols * step / 2 + (i % cols) * step + (step - size) / 2}
      y=${py - rows * step / 2 + Math.floor(i / cols) * step + (step - size) / 2} width=${size} height=${size}
      viewBox="0 0 16 16" class=${'mark t-' + stateTone(s)}>
      ${step < 4 ? html`<circle cx="8" cy="8" r="6.5" class="fill" />` : shape(s)}</svg>`);
    return html`<a key=${x.name} class=${'node s-' + st} href=${siteHref(x.name)}
      aria-label=${`${x.name}: ${this.told(x)}`}><circle class="nodehalo round" cx=${px} cy=${py} r=${r} />${dots}</a>`;
  }
  told(x) {
    const states = x.clusters.map(c => world.stateOf(c)), count = k => states.filter(s => s === k).length,
      bad = ['down', 'degraded', 'full', 'draining'].filter(k => count(k)).map(k => `${count(k)} ${k}`);
    return `${x.clusters.length} clusters${bad.length ? ', ' + words(bad) : ''}`;
  }
  caption(p, at, W, H, slim, row) {
    const { x, spots, far, d0, a0, right, dense } = p, age = world.siteAge(x.name), peers = world.proxies(x.name),
      [ax, ay] = at.P(far, a0);
    const way = d0 === null ? 'not measured' : `${ms(d0)} ms`,
      sum = x.clusters.reduce((a, c) => a + world.rate(c.name), 0);
    const second = age ? `no news for ${ago(age)}` : world.cold ? `${Math.round(world.age)} s old` : at.many
      ? `${rate(sum)}, ${way}` : dense ? `${this.told(x)}, ${way}` : slim ? `${way} away`
      : `${x.kind}, ${way === 'not measured' ? way : way + ' away'}${peers
      ? `, ${peers.heard} of ${peers.all} ${peers.all === 1 ? 'proxy' : 'proxies'}` : ''}`;
    let tx = right ? W - 18 : 18, ty, anchor = right ? 'end' : 'start', lead = null;
    if (at.many) {
      ty = row.y;
      const r = this.radius(x, true), out = right ? 1 : -1, lx = tx + (right ? -1 : 1) * 96;
      if (!slim) lead =
        html`<path class="lead" d=${`M${(ax + out * r).toFixed(1)} ${ay.toFixed(1)}L${lx} ${ty - 4}`} />`;
    } else if (dense) { const r = this.radius(x, false); tx = Math.min(W - 12, Math.max(12, ax + (right ? r : -r)));
      ty = Math.max(18, ay - r - 24); }
    else if (slim) { tx = right ? W - 10 : 10; ty = 22; }
    else ty = Math.max(20, Math.min(H, ...spots.map(s => at.P(s.d, s.a)[1])) - 48);
    if (slim && at.many) return null;
    // A cluster without a site is its own site: its name is shown once.
    if (!dense && spots.length === 1 && spots[0].c.name === x.name && !age) return null;
    return html`<g key=${x.name} class="cap">${lead}
      <g text-anchor=${anchor} transform=${`translate(${tx.toFixed(1)} ${ty.toFixed(1)})`}>
      <a href=${siteHref(x.name)}><text class="name">${x.name}</text></a>
      <text class=${'sub' + (age ? ' strong' : '')} y="15">${second}</text></g></g>`;
  }
  node(p, spot, at, W, slim) {
    const { c, a, d } = spot, [x, y] = at.P(d, a), st = world.stateOf(c), v = world.rate(c.name), dead = st === 'down',
      dx = x - at.cx, right = dx > 4, here = p.x.here, xs = p.spots.map(s => at.P(s.d, s.a)[0]);
    let lx, ly, anchor;
    if (here && !slim && Math.abs(dx) > 40) { lx = x + (right ? 35 : -35); ly = y + 4;
      anchor = right ? 'start' : 'end'; }
    else if (here) { lx = x + (Math.abs(dx) > 40 ? (right ? 24 : -24) : 0); ly = y + 38; anchor = 'middle'; }
    else if (slim && !right) { lx = Math.max(44, x - 4); ly = y + 28; anchor = 'middle'; }
    else if (slim && p.spots.length > 1) { lx = x + 20; ly = y + 3; anchor = 'start';
      if (x + 92 > W) { lx = Math.min(x, W - 38); ly = y + 28; anchor = 'middle'; } }
    else if (slim) { lx = Math.max(40, Math.min(W - 40, x)); ly = y + 28; anchor = 'middle'; }
    else { lx = right ? Math.max(...xs) + 31 : Math.min(...xs) - 31; ly = y - 1; anchor = right ? 'start' : 'end';
      if (lx > W - 84) { lx = x; ly = y + 34; anchor = 'middle'; } else if (lx < 84) { lx = x; ly = y + 34;
      anchor = 'middle'; } }
    const way = ms(c.distance_ms) + ' ms';
    const text = dead ? (slim || here ? 'down' : `down, ${c.cause.replaceAll('_', ' ')}`) : st === 'draining'
      ? (v > 0.5 ? `${rate(v)}, draining` : 'draining') : v < 0.05 ? (slim ? 'idle' : `idle, ${way}`) : st === 'full'
      ? `${rate(v)}, full` : slim ? rate(v) : `${rate(v)}, ${way}`;
    const fits = anchor !== 'start' || lx + 6.6 * text.length < W;
    const cls = dead ? 'sub tx-lost strong' : st === 'full' || st === 'degraded' ? 'sub tx-away strong'
      : st === 'draining' || st === 'dialled' ? 'sub tx-hand strong' : 'sub';
    return html`<a key=${c.name} class=${'node s-' + st} href=${'#/clusters/' + encodeURIComponent(c.name)}
      aria-label=${`${c.name}: ${text}`}><circle class="nodehalo" cx=${x} cy=${y} r="15" />
      <svg x=${x - 11} y=${y - 11} width="22" height="22" viewBox="0 0 16 16" class=${'mark t-' + stateTone(st)}>
      ${shape(st)}</svg><g class="nlabel" transform=${`translate(${lx.toFixed(1)} ${ly.toFixed(1)})`}
      text-anchor=${anchor}><text class="name">${c.name}</text>
      <text class=${cls} y="15">${dead && !fits ? 'down' : text}</text></g></a>`;
  }

  picture(W) {
    const slim = W < 560, sites = world.sites();
    sites.filter(x => !x.here).forEach(x => placeOf(x.name));
    const many = places.length > 6;
    const H = slim ? 436 : Math.round(many ? Math.max(440, Math.ceil((places.length + 1) / 2) * 38 + 40)
      : Math.min(400, Math.max(372, W * 0.44)));
    const at = this.plan(W, H, slim, sites), { cx, cy, R, P, flat, placed } = at, t = world.totals();
    // One scale for all flows: the whole demand is 46 units wide.
    const most = Math.max(t.demand, 1), scale = (slim ? 30 : 46) / Math.max(most, 20);
    const labels = slim ? [10, 100] : RINGS;
    const flows = [], nodes = [], caps = [], isles = [];
    const rows =
      [true,
      false].map(side => {
      const own = placed.filter(p => !p.x.here && p.right === side).sort((a, b) =>
      P(a.far, a.a0)[1] - P(b.far, b.a0)[1]);
      return new Map(own.map((p, i) =>
      [p.x.name, { y: 34 + (H - 70) * (own.length === 1 ? 0.5 : i / (own.length - 1)) }])); });
    for (const p of placed) {
      isles.push(this.island(p, at));
      if (!p.x.here) caps.push(this.caption(p, at, W, H, slim, rows[p.right ? 0 : 1].get(p.x.name)));
      if (p.dense) {
        const [x, y] = P(p.far, p.a0), sum = p.x.clusters.reduce((a, c) => a + world.rate(c.name), 0),
          st = world.siteState(p.x), away = p.x.clusters.some(c => this.away(c.name));
        const tone = st === 'stale' || world.cold ? 'none' : away ? 'away' : 'home';
        flows.push(this.flow(p.x.name, this.curve(cx, cy, x, y, p.x.here), sum, tone,
          st === 'down' ? 'dead' : p.d0 === null || st === 'stale' ? 'stale' : '', scale, away, this.why('sites', p.x.name),
          `Why ${p.x.name}? ${rate(sum)}`));
        nodes.push(this.field(p, at));
        continue;
      }
      for (const s of p.spots) {
        const [x, y] = P(s.d, s.a), v = world.rate(s.c.name), st = world.stateOf(s.c), away = this.away(s.c.name),
          tone = st === 'stale' || world.cold ? 'none' : away ? 'away' : 'home';
        flows.push(this.flow(s.c.name, this.curve(cx, cy, x, y, p.x.here), v, tone,
          st === 'down' ? 'dead' : st === 'stale' ? 'stale' : '', scale, away, this.why('clusters', s.c.name),
          `Why ${s.c.name}? ${s.c.why}`));
        nodes.push(this.node(p, s, at, W, slim));
      }
    }
    const gy = slim ? 46 : 0, wIn = t.demand < 0.05 ? 0 : Math.max(3, t.demand * scale), refused = t.refused >= 0.5,
      sx = slim ? cx - 74 : cx - R(1) * 0.86, sy = slim ? cy : cy + 17;
    const who = world.services.filter(s => s.refused_per_s > 0.3).map(s => s.name), home = placed.some(p => p.x.here);
    return html`<svg class=${'map' + (world.cold ? ' cold' : '')} role="group"
      aria-label="Sites and clusters by distance from this proxy" viewBox=${`0 0 ${W} ${H}`} width=${W} height=${H}>
      <defs>
        <pattern id="hatch-lost" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect width="7" height="7" class="h0" /><rect width="2.4" height="7" class="h1" /></pattern>
        <pattern id="hatch-none" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect width="6" height="6" class="g0" /><rect width="1.4" height="6" class="g1" /></pattern>
        <linearGradient id="infade" gradientUnits="userSpaceOnUse" x1="0" y1=${slim ? 40 : 0} x2="0" y2=${cy}>
          <stop class="in0" offset="0" /><stop class="in1" offset="0.55" /></linearGradient>
      </defs>
      <rect class="water" width=${W} height=${H} />
      <g class="sea">
        ${[100, 30, 10, 3,
        1].map((d, i) => html`<ellipse cx=${cx} cy=${cy} rx=${R(d)} ry=${R(d) * flat} class=${'depth d' + i} />`)}
        ${RINGS.map(d => html`<ellipse cx=${cx} cy=${cy} rx=${R(d)} ry=${R(d) * flat}
          class=${'ringline' + ([1, 10, 100].includes(d) ? ' major' : '')} />`)}
        ${labels.map(d => { const [x, y] = slim ? P(d, d === 10 ? 7 : -5) : P(d, many ? 78 : -50);
          return html`<text class="ringtext" x=${slim ? x - 4 : x} y=${y + 4} text-anchor=${slim ? 'end' : 'middle'}>
          ${d}${d === 100 ? ' ms' : ''}</text>`; })}</g>
      <g>${isles}</g>
      <g>
        ${wIn ? [html`<path key="in" class="inflow" d=${`M${cx} ${gy}V${cy}`} stroke-width=${wIn.toFixed(1)} />`,
        html`<path key="incur" class="current slow" d=${`M${cx} ${gy}V${cy}`}
        stroke-width=${Math.min(4, wIn * 0.3).toFixed(1)} />`] : null}${flows}
        ${refused
          ? html`<a key="stop" class="flowlink" href=${this.whyRefused()}
          aria-label=${`Why are ${num(t.refused)}/s refused?`}><path d=${`M${cx} ${cy}L${sx} ${sy}`} class="grip" />
          <path class="band st-lost" d=${`M${cx} ${cy}L${sx} ${sy}`}
          stroke-width=${Math.max(3, t.refused * scale).toFixed(1)} />
          <path class="bars" d=${`M${sx} ${sy - 14}v28M${sx - 6} ${sy - 14}v28`} />
          <title>${`Why are ${num(t.refused)}/s refused?`}</title></a>` : null}</g>
      <g>${nodes}</g>
      <g>${caps}
        <g class="cap" text-anchor=${slim ? 'middle' : 'start'}
          transform=${slim ? `translate(${cx} 22)` : `translate(${cx + Math.max(26, wIn / 2 + 10)} 24)`}>
          <text class="name">${rate(t.demand)}</text><text class="sub" y="15">from clients${world.one && !slim ? ' of this proxy' : ''}</text></g>
        ${refused
          ? html`<g class="cap" text-anchor=${slim ? 'start' : 'end'}
          transform=${slim ? `translate(18 ${cy - 26})` : `translate(${sx - 14} ${sy - 1})`}>
          <text class="name tx-lost">${num(t.refused)}/s refused</text>
          <text class="sub" y="15">${slim ? '' : who.slice(0, 2).join(', ') + (who.length > 2 ? ' …' : '')}</text>
          </g>`
          : null}
        <g class="gate" transform=${`translate(${cx} ${cy})`}><circle class="disc" r="25" />
          <path class="posts" d="M-9 -11V11M9 -11V11" />
          <path class="wave" d="M-9 -3c4.5-4.2 9-4.2 9 0s4.5 4.2 9 0M-9 5c4.5-4.2 9-4.2 9 0s4.5 4.2 9 0" /></g>
        <g class="cap here" text-anchor=${slim ? 'middle' : 'end'}
          transform=${slim ? `translate(${cx} ${H - 30})` : home
          ? `translate(${cx - Math.max(40, wIn / 2 + 18)} ${cy - 50})` : `translate(${cx - 34} ${cy + 40})`}>
          <text class="name">${world.site}</text><text class="sub" y="15">this site</text></g>
      </g></svg>`;
  }
  render(_, { w }) { return html`<div class="mapbox" ref=${el => { this.box = el; }}>
    ${w ? this.picture(w) : null}</div>`; }
}
