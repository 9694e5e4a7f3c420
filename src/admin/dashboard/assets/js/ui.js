// Words, figures and marks: the small parts of every view. Text reaches the page as text nodes alone.

import { h, Component } from '../vendor/preact.js';
import htm from '../vendor/htm.js';

export const html = htm.bind(h);
export { Component };

// ---- figures. A dash is an unknown value, never zero.
const NB = '\u202f', DASH = '\u2013';
const none = x => x === null || x === undefined || Number.isNaN(x);
const grouped = new Intl.NumberFormat('en');
export const num = x => { if (none(x)) return DASH; const n = Math.round(x);
  return Math.abs(n) < 1000 ? String(n) : grouped.format(n); };
export const ms = x => none(x) ? DASH : x > 0 && x < 0.095 ? x.toFixed(2) : x < 9.95 ? x.toFixed(1) : num(x);
export const msT = x => none(x) ? DASH : x > 0.004 && x < 0.095 ? x.toFixed(2) : x < 99.95 ? x.toFixed(1) : num(x);
export const few = x => none(x) ? DASH : x > 0 && x < 9.95 ? x.toFixed(1) : num(x);
export const pct = x => none(x) ? DASH : (x > 0 && x < 0.005 ? '<1' : x < 1 && x > 0.995 ? '>99' : Math.round(x * 100))
  + NB + '%';
export const usd = x => none(x) ? DASH : '$' + (x >= 1000 ? num(x) : x > 0.0005 && x < 0.0095 ? x.toFixed(3)
  : x.toFixed(2));
export const size = x => { if (none(x)) return DASH; let at = 0;
  while (x >= 1024 && at < 4) { x /= 1024; at += 1; }
  return `${at ? x.toFixed(1) : Math.round(x)}${NB}${['B', 'KiB', 'MiB', 'GiB', 'TiB'][at]}`; };
export const rate = x => none(x) ? DASH : x > 0.05 && x < 9.95 ? x.toFixed(1) + '/s' : num(x) + '/s';
export const ago = x => x < 60 ? `${Math.round(x)}${NB}s` : x < 3600
  ? `${Math.floor(x / 60)}${NB}min ${Math.round(x % 60)}${NB}s` : x < 86400
  ? `${Math.floor(x / 3600)}${NB}h ${Math.round(x % 3600 / 60)}${NB}min` : `${Math.round(x / 86400)}${NB}d`;
const two = x => String(x).padStart(2, '0');
export function clock(t, seconds = true) { const d = new Date(t * 1000);
  return `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}` + (seconds ? `:${two(d.getUTCSeconds())}` : ''); }
export const words = list => list.length < 2 ? list.join('')
  : list.slice(0, -1).join(', ') + ' and ' + list[list.length - 1];

// ---- state: one word, one shape, one colour
const STATE = {
  up: ['up', 'home'], full: ['full', 'away'], degraded: ['degraded', 'away'], down: ['down', 'lost'],
    draining: ['draining', 'hand'], dialled: ['by hand', 'hand'], stale: ['no news', 'none'], idle: ['idle', 'none'],
    none: ['not recorded', 'none'],
  nearest: ['at home', 'home'], spill: ['spilling', 'away'], failover: ['failed over', 'away'],
    refused: ['refused', 'lost'],
};
const TONES = { maynot: 'rule', may: 'home', reload: 'info', spillev: 'away', budget: 'away', reloadfail: 'lost',
  play: 'info', hand: 'hand', lock: 'info' };
const P = (d, c) => html`<path d=${d} class=${c} />`;
const SHAPE = {
  up: () => html`<circle cx="8" cy="8" r="5.2" class="fill" />`,
  full: () => [html`<circle cx="8" cy="8" r="6.1" class="ring" />`,
    html`<circle cx="8" cy="8" r="3.2" class="core" />`],
  degraded: () => [P('M8 1.8 14.6 13.4H1.4Z', 'fill'), P('M8 6v3.6M8 11.3v.4', 'cut')],
  down: () => [html`<rect x="2" y="2" width="12" height="12" rx="2" class="fill" />`,
    P('M5.6 5.6l4.8 4.8M10.4 5.6l-4.8 4.8', 'cut')],
  draining: () => P('M8 1.9 14.1 8 8 14.1 1.9 8Z', 'ring'),
  stale: () => html`<circle cx="8" cy="8" r="5.4" class="dash" />`,
  idle: () => html`<circle cx="8" cy="8" r="4.6" class="thin" />`,
  may: () => P('M3 8.5l3.2 3.3L13 4.8', 'line'),
  maynot: () => P('M3 2.5v11M13 2.5v11M3 6h10M3 10h10', 'line'),
  reload: () => P('M12.6 6A5 5 0 1 0 13 9M13 2.6V6H9.6', 'line'),
  spillev: () => P('M2.5 11c3.5 0 4.5-6 10.5-6M9.8 2.2 13 5l-2.8 3.2', 'line'),
  budget: () => [html`<circle cx="8" cy="8" r="5.6" class="line" />`,
    P('M8 4.8v6.4M9.8 6.2c-.8-.9-3.6-.9-3.6.6 0 1.7 3.6.7 3.6 2.4 0 1.5-2.8 1.5-3.7.6', 'line slim')],
  play: () => P('M5 3.2v9.6L12.5 8Z', 'line'),
  lock: () => [html`<rect x="3.5" y="7.2" width="9" height="6.3" rx="1.5" class="line" />`,
    P('M5.5 7V5.2a2.5 2.5 0 0 1 5 0V7', 'line')],
};
Object.assign(SHAPE, { nearest: SHAPE.up, spill: SHAPE.full, failover: SHAPE.spillev, refused: SHAPE.down,
  reloadfail: SHAPE.down, hand: SHAPE.draining, dialled: SHAPE.draining, none: SHAPE.stale });
export const shape = kind => (SHAPE[kind] || SHAPE.idle)();
export const stateWord = kind => (STATE[kind] || [kind])[0];
export const stateTone = kind => (STATE[kind] || [0, TONES[kind] || 'none'])[1];
export function mark(kind, size = 16, tone = stateTone(kind), place = {}) {
  return html`<svg viewBox="0 0 16 16" width=${size} height=${size} class=${'mark t-' + tone} aria-hidden="true"
    ...${place}>${shape(kind)}</svg>`;
}
export const chip = (kind, text) => html`<span class=${'chip t-' + stateTone(kind)}>${mark(kind, 12)}
  ${text || stateWord(kind)}</span>`;
export const rich = parts => parts.map(p => typeof p === 'string' ? p
  : html`<b class=${p.tone ? 'tx-' + p.tone : ''}>${p.b}</b>`);
export const AWAY = ['home', 'away', 'away2'];

// A bar of shares: [[tone, value]]. Widths move softly.
export function bar(parts, cls = '') {
  let first = true;
  return html`<span class=${'bar ' + cls} aria-hidden="true">${parts.map(([tone, value], i) => {
    const v = Math.max(0, value || 0), cut = !first && v > 0.001;
    if (v > 0.001) first = false;
    return html`<span key=${i} class=${`bg-${tone} ${cut ? 'cutl' : ''}`}
      style=${{ '--w': (v * 100).toFixed(2) + '%' }}></span>`;
  })}</span>`;
}
// The queue compared with the tolerated queue: the tick is the limit.
export function bullet(queue, hold) {
  const nil = none(queue) || !hold;
  return html`<span class=${'bullet ' + (nil ? 'nil' : queue > 0.8 * hold ? 'over' : '')} aria-hidden="true">
    <span class="level" style=${{ '--w': nil ? '0%' : Math.min(100, 50 * queue / hold).toFixed(1) + '%' }}></span>
    <span class="tick"></span></span>`;
}
export function spark(values, tone, w = 84, hh = 20) {
  let top = 1e-9;
  for (const y of values) if (y > top) top = y;
  top *= 1.08;
  // The area is closed at each gap, at the last known value before it.
  let d = '', area = '', open = false, last = 0;
  const n = values.length - 1 || 1, close = () => { if (open) area += `L${last} ${hh}Z`; open = false; };
  values.forEach((y, i) => {
    if (none(y)) { close(); return; }
    const x = (i * w / n).toFixed(1), at = (hh - 1.5 - (y / top) * (hh - 4)).toFixed(1);
    d += `${open ? 'L' : 'M'}${x} ${at}`; area += open ? `L${x} ${at}` : `M${x} ${hh}L${x} ${at}`;
    open = true; last = x;
  });
  close();
  return html`<svg viewBox=${`0 0 ${w} ${hh}`} width=${w} height=${hh} class="sparkbox" aria-hidden="true">
    <path d=${area} class=${`sparkfill fl-${tone}`} /><path d=${d} class=${`spark st-${tone}`} /></svg>`;
}
// Sixty points of ten minutes: means of ten known ones.
export function thin(points, each = 10) {
  const out = [];
  for (let i = 0; i < points.length; i += each) {
    let sum = 0, count = 0;
    for (let k = i; k < i + each && k < points.length; k++) if (!none(points[k])) { sum += points[k]; count += 1; }
    out.push(count ? sum / count : null);
  }
  return out;
}

export const section = (title, extra, ...kids) =>
  html`<section class=${title === 'Health' ? 'panel padded' : 'panel'}><header><h2>${title}</h2>${extra}</header>
  ${kids}</section>`;
export const rules = pairs =>
  html`<dl class="rules">
  ${pairs.filter(Boolean).map(([k, v, cls]) => [html`<dt>${k}</dt>`, html`<dd class=${cls || ''}>${v}</dd>`])}</dl>`;
export const kpi = (label, value, unit, sub, extra = {}) =>
  html`<div class=${'kpi ' + (extra.cls || '')}><span class="klabel">${label}</span>
  <span class="kval"><b class="num">${value}</b>${unit ? html`<small>${unit}</small>` : null}</span>
  ${extra.more || null}<span class="ksub">${sub}</span></div>`;
export const tabs = (kind, all, current) =>
  html`<nav class="tabs" aria-label=${kind}>
  ${all.map(([name, state]) => html`<a key=${name} href=${`#/${kind}/${encodeURIComponent(name)}`}
  aria-current=${name === current ? 'page' : null}>${mark(state, 14)}${name}</a>`)}</nav>`;

// ---- colours of the canvas: the tokens of style.css, read again when the theme changes
let tokens = null;
export function token(name) {
  if (!tokens) tokens = getComputedStyle(document.documentElement);
  return tokens.getPropertyValue('--' + name).trim();
}
export function forgetTokens() { tokens = null; }
