// Lines and stacked areas on one time line. uPlot draws the data; events, the cursor and limits lie above it as SVG, so
// that they are one for all charts of a page.

import uPlot from '../vendor/uplot.js';
import { html, Component, token, mark, clock } from './ui.js';

const PAD_LEFT = 46, PAD_RIGHT = 10;
const SHOWN = new Set(['spill', 'cluster', 'reload', 'dial', 'budget', 'certificates', 'drill', 'shift']);
// Phases of a drill or shift in which nothing moves.
const QUIET = new Set(['baseline', 'held']);
const COLOUR = { home: 'home', away: 'away', away2: 'away2', lost: 'lost', ink: 'ink2', info: 'ink3', sea2: 'sea2',
  none: 'none' };
const nice = x => { const p = 10 ** Math.floor(Math.log10(x || 1)), m = x / p;
  return [1, 1.5, 2, 3, 4, 5, 8, 10].find(s => m <= s + 1e-9) * p; };

// One cursor for all charts: seconds since 1970, or null.
let cursor = null;
const charts = new Set();
function setCursor(t) { if (t === cursor) return; cursor = t; for (const c of charts) c.forceUpdate(); }
export function redrawCharts() { for (const c of charts) c.rebuild(); }

function hatch(colour) {
  const c = document.createElement('canvas'); c.width = c.height = 6;
  const g = c.getContext('2d'); g.fillStyle = colour; g.globalAlpha = 0.75; g.fillRect(0, 0, 6, 6);
  g.globalAlpha = 0.35; g.strokeStyle = '#000'; g.lineWidth = 1.5; g.beginPath(); g.moveTo(-1, 7); g.lineTo(7, -1);
    g.moveTo(-1, 1); g.lineTo(1, -1); g.moveTo(5, 7); g.lineTo(7, 5); g.stroke();
  return g.createPattern(c, 'repeat');
}

// props: title, unit, height, x [seconds], span, ahead, series [{ name, tone, values, dash, fill, hatch }], stacked,
//        max, fmt, tick, limits [{ y, text }], axis, events (labels), marks (the events), end, gap
export class Chart extends Component {
  constructor() { super(); this.state = { w: 0 }; this.box = null; this.plot = null; this.shape = ''; }
  componentDidMount() {
    charts.add(this);
    this.sizer =
      new ResizeObserver(() => { const w = Math.floor(this.box?.clientWidth || 0);
      if (w && w !== this.state.w) this.setState({ w }); });
    this.sizer.observe(this.box);
    this.draw();
  }
  componentDidUpdate() { this.draw(); }
  componentWillUnmount() { charts.delete(this); this.sizer.disconnect(); this.plot?.destroy(); this.plot = null; }
  rebuild() { this.shape = ''; this.forceUpdate(); }

  bounds() { const { end, span, ahead = 0 } = this.props; return [end - span, end + ahead]; }
  X(t) { const [a, b] = this.bounds(); return PAD_LEFT + (t - a) / (b - a) * (this.state.w - PAD_LEFT - PAD_RIGHT); }
  // The greatest value shown, rounded up.
  top() {
    const { series, stacked, limits = [], max } = this.props;
    if (max) return max;
    let top = 0;
    if (stacked) { for (let i = 0; i < this.props.x.length; i++) { let sum = 0;
      for (const s of series) sum += s.values[i] || 0; if (sum > top) top = sum; } }
    else {
      for (const s of series) if (!s.ref) for (const v of s.values) if (v !== null && v > top) top = v;
      // A limit is shown only if it is near: a limit far above would flatten the curve.
      for (const s of series) if (s.ref) { const last = s.values.at(-1);
        if (last !== null && last > top && (top === 0 || last < top * 6)) top = last; }
    }
    for (const l of limits) if (l.y > top) top = l.y;
    return top > 0 ? nice(top * (stacked ? 1.02 : 1.1)) : 0;
  }
  data() {
    const { x, series, stacked } = this.props;
    if (!stacked) return [x, ...series.map(s => s.values)];
    const base = new Array(x.length).fill(0),
      known = x.map((_, i) => series.some(s => s.values[i] !== null && s.values[i] !== undefined)),
      least = this.top() * 0.002;
    return [x, ...series.map((s, k) => s.values.map((v, i) => {
      base[i] += v || 0;
      // A layer without thickness has no line, except at its edges.
      const runs = j => (s.values[j] || 0) > least;
      return known[i] && (k === 0 || runs(i) || runs(i - 1) || runs(i + 1)) ? base[i] : null;
    }))];
  }
  draw() {
    const { w } = this.state, { height, axis, series, stacked, fmt, tick } = this.props;
    if (!w || !this.box) return;
    const known = this.top(), top = known || 1, lane = this.lane, data = this.data();
    const shape = JSON.stringify([w, height, axis, stacked, lane, series.map(s => [s.name, s.tone, s.dash, s.fill])]);
    if (this.plot && shape === this.shape) { this.max = top; this.known = known; this.plot.setData(data); return; }
    this.plot?.destroy(); this.shape = shape; this.max = top; this.known = known;
    const font = '11px "Plex Sans", ui-sans-serif, system-ui, sans-serif', grid = { stroke: token('line'), width: 1 },
      text = token('ink3');
    const colour = s => token(COLOUR[s.tone] || s.tone);
    this.plot = new uPlot({
      width: w, height, padding: [8 + lane, PAD_RIGHT, axis ? 0 : 6, 0], legend: { show: false },
        cursor: { show: false }, pxAlign: 1,
      tzDate: t => uPlot.tzDate(new Date(t * 1e3), 'Etc/UTC'),
      scales: { x: { time: true, range: () => this.bounds() }, y: { range: () => [0, this.max] } },
      axes: [
        axis ? { size: 22, gap: 4, stroke: text, font, grid: { show: false }, ticks: { show: false },
          border: { show: false }, splits: () => this.splits(), values: (u, all) => this.labels(all) }
          : { show: false },
        { size: PAD_LEFT, gap: 6, stroke: text, font, grid, ticks: { show: false },
          splits: () => this.known ? [0, this.max / 2, this.max] : [0],
          values: (u, all) => all.map(v => (tick || fmt)(v)) },
      ],
      series: [{}, ...series.map(s => ({
        stroke: s.line === false ? 'transparent' : colour(s), width: 1.7, dash: s.dash ? [4, 3] : undefined,
          points: { show: false }, spanGaps: false,
        fill: stacked ? (s.hatch ? hatch(colour(s)) : colour(s) + 'd0') : s.fill
          ? colour(s) + (s.tone === 'ink' ? '22' : 'd0') : undefined,
      }))],
      bands: stacked ? series.slice(1).map((_, i) => ({ series: [i + 2, i + 1] })) : [],
    }, data, this.box);
    this.plot.root.setAttribute('aria-hidden', 'true');
  }
  splits() {
    const [a] = this.bounds(), { end, span } = this.props,
      each = span <= 600 ? (this.state.w < 480 ? 300 : 120) : span <= 3600 ? (this.state.w < 480 ? 1800 : 600)
      : (this.state.w < 480 ? 28800 : 10800);
    const all = []; for (let t = a; t <= end - each * 0.4; t += each) all.push(t);
    return [...all, end];
  }
  labels(all) { return all.map((t, i) => i === all.length - 1 ? 'now' : clock(t, false)); }

  // Of events closer than 3 px only the last is drawn, or the last loss: a day of events would be one block of colour.
  apart(list) {
    const kept = [];
    for (const e of list) {
      const near = kept.length && this.X(e.t) - this.X(kept.at(-1).t) < 3;
      if (near && kept.at(-1).tone === 'lost' && e.tone !== 'lost') continue;
      if (near) kept.pop();
      kept.push(e);
    }
    return kept;
  }
  // Events get labels if there is space; the newest label is lowest, so that no stem crosses a label.
  place(list) {
    const taken = [[], []], placed = [], { w } = this.state, room = w > 520;
    const free = (r, a, b) => a > 0 && b < w - 2 && taken[r].every(([x, y]) => b < x || a > y);
    for (const e of [...list].reverse()) {
      const x = this.X(e.t), width = e.text.length * 6.5 + 16;
      const ok = (r, a, b) => free(r, a, b) && placed.every(p => p.x <= a || p.x >= b || p.x === x || p.row > r
        || (p.x > x && b < x + 11));
      const hit = (room ? [[1, 1], [0, 1], [1, -1], [0, -1]] : []).find(([r, d]) =>
        ok(r, d > 0 ? x - 10 : x - width, d > 0 ? x + width : x + 10));
      const row = hit ? hit[0] : [1, 0].find(r => free(r, x - 9, x + 9)) ?? -1, dir = hit ? hit[1] : 0;
      if (row >= 0) taken[row].push(dir > 0 ? [x - 10, x + width] : dir < 0 ? [x - width, x + 10] : [x - 9, x + 9]);
      placed.push({ e, x, row, dir });
    }
    if (placed.every(p => p.row !== 0)) placed.forEach(p => { if (p.row === 1) p.row = 0; });
    return placed;
  }
  at(t) {
    const { x } = this.props; if (!x.length) return -1;
    const step = x.length > 1 ? x[1] - x[0] : 1, i = Math.round((t - x[0]) / step);
    return i < 0 || i >= x.length ? -1 : i;
  }
  key(ev) {
    const { end, span } = this.props, step = span / 60,
      d = { ArrowLeft: -step, ArrowRight: step, Home: -span, End: span }[ev.key];
    if (ev.key === 'Escape') setCursor(null);
    else if (d) { ev.preventDefault(); setCursor(Math.max(end - span, Math.min(end, (cursor ?? end) + d))); }
  }
  point(ev) {
    const b = ev.currentTarget.getBoundingClientRect(), px = ev.clientX - b.left, [a, z] = this.bounds();
    setCursor(px < PAD_LEFT ? null
      : Math.round(Math.min(z, a + (px - PAD_LEFT) / (this.state.w - PAD_LEFT - PAD_RIGHT) * (z - a))));
  }

  render({ title, unit, height, series, stacked, fmt, limits = [], axis, events, marks = [], end, span, ahead = 0, note,
    gap = 0, x }, { w }) {
    const [t0, t1] = this.bounds(), list = this.apart(marks.filter(e => SHOWN.has(e.kind) && !QUIET.has(e.phase)
      && e.t >= t0 && e.t <= t1));
    const placed = w && events ? this.place(list) : [];
    this.lane = placed.length ? (placed.some(p => p.row === 1) ? 40 : 22) : 0;
    const floor = height - (axis ? 22 : 6), lane = this.lane, top = this.top();
    const Y = y => floor - y / (top || 1) * (floor - 8 - lane);
    const now = cursor === null || cursor < t0 ? null : cursor;
    const legend = series.map(s => {
      let i = now === null ? x.length - 1 : this.at(now);
      // Without a cursor, the newest known value is shown.
      while (now === null && i > 0 && i > x.length - 4 && (s.values[i] === null || s.values[i] === undefined)) i -= 1;
      const v = s.ahead && now === null ? s.now : s.values[i];
      return html`<span class="key"><i class=${`sw ${s.dash ? 'dashed' : stacked ? 'area' : 'linek'} bg-${s.tone}`}></i>
        ${s.name} <b class="num">${v === null || v === undefined ? '\u2013' : (s.fmt || fmt)(v)}</b></span>`;
    });
    const cx = now === null ? 0 : this.X(now), lx = Math.min(w - 34, Math.max(PAD_LEFT + 26, cx));
    return html`<figure class="chart"><div class="legend"><span class="ctitle">${title}
      ${unit ? html`<small> ${unit}</small>` : null}</span>${legend}
      ${note ? html`<span class="cnote">${note}</span>` : null}</div>
      <div class="plotbox" style=${{ '--h': height + 'px' }}><div class="canvas" ref=${el => { this.box = el; }}></div>
      ${w
        ? html`<svg class="plot" role="img"
        aria-label=${`${title}, ${span <= 600 ? 'last 10 minutes' : span <= 3600 ? 'last hour' : 'last 24 hours'}`}
        tabindex="0" width=${w} height=${height} viewBox=${`0 0 ${w} ${height}`} onPointerMove=${ev => this.point(ev)}
        onPointerLeave=${() => setCursor(null)} onKeyDown=${ev => this.key(ev)}>
        ${ahead
          ? html`<rect class="future" x=${this.X(end)} y=${lane} width=${Math.max(0, w - PAD_RIGHT - this.X(end))}
          height=${Math.max(0, floor - lane)} />` : null}
        ${gap > 1
          ? html`<rect class="gap" x=${this.X(end - gap)} y=${lane}
          width=${Math.max(0, this.X(end) - this.X(end - gap))} height=${Math.max(0, floor - lane)} />` : null}
        ${top ? null
          : html`<text x=${(PAD_LEFT + w) / 2} y=${(floor + lane) / 2 + 4} text-anchor="middle">nothing yet</text>`}
        ${limits.map(l => [html`<line class="limit" x1=${PAD_LEFT} x2=${w - PAD_RIGHT} y1=${Y(l.y)} y2=${Y(l.y)} />`,
          html`<text class="limit" x=${PAD_LEFT + 6} y=${Y(l.y) - 4 < 9 + lane ? Y(l.y) + 12 : Y(l.y) - 4}>
          ${l.text}</text>`])}
        ${events
          ? placed.map(({ e, x: px, row }) => html`<line class=${'stem t-' + e.tone} x1=${px} x2=${px}
          y1=${row < 0 ? lane : row * 20 + 11} y2=${floor} />`)
          : list.map(e => html`<line class=${'stem t-' + e.tone} x1=${this.X(e.t)} x2=${this.X(e.t)} y1="0"
          y2=${floor} />`)}
        ${placed.filter(p => p.row >= 0).map(({ e, x: px, row, dir }) =>
          html`<g class=${'ev t-' + e.tone} transform=${`translate(${px.toFixed(1)} ${row * 20 + 11})`}>
          <title>${clock(e.t)} ${e.text}</title><circle class="halo" r="9.5" />
          ${mark(e.glyph, 14, e.tone, { x: -7, y: -7 })}
          ${dir ? html`<text x=${dir * 13} y="4" text-anchor=${dir < 0 ? 'end' : 'start'}>${e.text}</text>`
          : null}</g>`)}
        ${ahead ? html`<line class="nowline" x1=${this.X(end)} x2=${this.X(end)} y1=${lane} y2=${floor} />` : null}
        ${now === null ? null : html`<g class="cursor"><line x1=${cx} x2=${cx} y1=${lane} y2=${floor} />
          ${axis ? [html`<rect x=${lx - 29} y=${height - 19} width="58" height="17" rx="4" />`,
          html`<text x=${lx} y=${height - 6.5} text-anchor="middle">${clock(now)}</text>`] : null}</g>`}
      </svg>` : null}</div></figure>`;
  }
}
