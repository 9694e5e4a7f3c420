// Drills and shifts: what is expected, the question, and the progress. The operation runs in the proxy; this page may
// be closed at any time.

import { html, mark, num, ago } from './ui.js';
import { world } from './world.js';
import { get, send, setToken } from './api.js';
import { Dialog, expectTable, oneNote } from './actions.js';

const SPANS = { drill: [[30, '30 s'], [60, '1 min'], [300, '5 min'], [1800, '30 min']],
  shift: [[60, '1 min'], [600, '10 min'], [1800, '30 min'], [7200, '2 h']] };
const PHASE = { baseline: 'measuring before anything moves', moving: 'moving', held: 'held', returning: 'is back',
  ended: 'over' };
const at = id => `api/v1/operations/${id}`;
const what = o => o.kind === 'drill' ? `Drill of ${o.name}` : `Shift of ${o.name} to ${o.to}`;

export function abort(o) { return send('DELETE', at(o.id)); }

// The running operation on every view.
export function operationBanner(act) {
  const o = world.operation;
  if (!o || o.phase === 'ended') return null;
  return html`<div class="banner t-hand operation" role="status">${mark('draining', 16)}
    <p><b>${what(o)}:</b> ${o.outcome ? `${o.outcome}, ` : ''}${o.percent}\u202f% away, ${PHASE[o.phase]},
      at most ${ago(o.seconds_left)} left</p>
    <button class="linklike" type="button" onClick=${() => act({ operation: true, follow: o.id, kind: o.kind,
      name: o.name })}>Follow</button>
    ${world.token ? html`<button class="linklike" type="button" onClick=${() => abort(o)}>Abort</button>`
    : null}</div>`;
}

export class OperationDialog extends Dialog {
  constructor(props) {
    super(props);
    const order = world.services.find(s => s.name === props.name)?.order || [];
    this.state = { percent: 100, span: SPANS[props.kind][1][0], from: order[0], to: order[1], order, typed: '',
      expected: null, told: '', busy: false, refused: false, id: props.follow || null, report: null };
  }
  componentDidMount() { super.componentDidMount(); if (!this.state.id) this.expect(); }
  componentWillUnmount() { clearTimeout(this.soon); }
  async expect() {
    const { kind, name } = this.props, { percent, from, to } = this.state, n = encodeURIComponent(name);
    const query = kind === 'drill' ? `kind=sites&name=${n}&percent=${100 - percent}`
      : `kind=services&name=${n}&from=${encodeURIComponent(from)}&to=${encodeURIComponent(to)}&percent=${percent}`;
    this.setState({ expected: null, refused: false });
    const told = await get(`api/v1/expect?${query}`, 20);
    this.setState({ expected: told.ok ? told.body : { unknown: typeof told.body === 'string' ? told.body.trim()
      : 'It cannot be simulated now.' } });
  }
  async go(force) {
    const { kind, name } = this.props, { percent, span, from, to } = this.state;
    this.setState({ busy: true, told: '' });
    const body = kind === 'drill' ? { kind, site: name, for_s: span, percent, force }
      : { kind, service: name, from, to, over_s: span, percent, force };
    const told = await send('POST', 'api/v1/operations', body);
    this.setState({ busy: false });
    if (told.ok) { world.operation = told.body; this.setState({ id: told.body.id }); return; }
    if (told.status === 401) setToken('', '');
    if (told.status === 422) { this.setState({ refused: true, told: `${told.body.refusal}.` }); return; }
    this.setState({ told: told.status === 401 ? 'The proxy no longer accepts the token.' : told.status === 0
      ? 'The proxy did not answer: it may or may not have begun.'
      : `${told.status}: ${typeof told.body === 'string' ? told.body.trim() : ''}` });
  }
  async end() {
    const o = world.operation;
    this.setState({ busy: true });
    const told = o && await abort(o);
    this.setState({ busy: false, told: told?.ok ? '' : `${told?.status}: the abort was not accepted.` });
  }
  async show() {
    const told = await get(at(this.state.id) + '/report');
    this.setState(told.ok ? { report: String(told.body) } : { told: `${told.status}: no report.` });
  }
  change(values) {
    this.setState(values); clearTimeout(this.soon);
    this.soon = setTimeout(() => this.expect(), 400);
  }
  progress({ told, busy, report, id }) {
    const o = world.operation?.id === id ? world.operation : null;
    if (!o) return [html`<h2>${this.props.name}</h2>`, html`<p class="note">This operation is no longer known.</p>`,
      html`<div class="acts"><button class="btn" type="button" onClick=${() => this.close()}>Close</button></div>`];
    const over = o.phase === 'ended', share = o.seconds / Math.max(1, o.seconds + o.seconds_left);
    const end = o.outcome && `${o.outcome}${o.cause ? `: ${o.cause}` : ''}`;
    return [html`<h2>${what(o)}</h2>`,
      html`<p aria-live="polite" class="state"><b>${over ? end : PHASE[o.phase]}</b>${over ? ''
      : `, ${num(o.percent)}\u202f% away, at most ${ago(o.seconds_left)} left`}${!over && end ? ` (${end})` : ''}</p>`,
      html`<progress max="1" value=${over ? 1 : share}></progress>`,
      report ? html`<pre class="report">${report}</pre>` : null,
      told ? html`<p class="warn" role="alert">${mark('down', 14)}<span>${told}</span></p>` : null,
      html`<div class="acts">${over && !report
      ? html`<button class="btn" type="button" onClick=${() => this.show()}>Report</button>` : null}
      <button class="btn" type="button" onClick=${() => this.close()}>Close</button>
      ${over || o.outcome || !world.token ? null : html`<button class="btn danger" type="button" disabled=${busy}
      onClick=${() => this.end()}>Abort</button>`}</div>`];
  }
  render({ kind, name }, state) {
    const { percent, span, from, to, order, typed, expected, told, busy, refused, id } = state;
    if (id) return this.frame(`${kind} ${name}`, this.progress(state));
    const heavy = kind === 'drill', ready = !busy && (heavy ? typed === name : from !== to);
    const pick = (label, value, values, set) => html`<label class="type">${label}<select aria-label=${label}
      value=${value} onChange=${ev => set(ev.target.value)}>
      ${values.map(([v, text]) => html`<option value=${v} selected=${String(v) === String(value)}>${text}</option>`)}
      </select></label>`;
    const names = order.map(c => [c, c]);
    return this.frame(`${kind} ${name}`, html`<h2>${heavy ? 'Drill' : 'Shift'} ${name}?</h2>
      <p>${heavy ? 'The traffic of this site goes elsewhere for a while, and returns.'
      : 'The traffic of this service moves step by step, and stays.'} It returns at once when errors or latency
      rise.</p>${oneNote()}
      ${heavy ? null : [pick('From', from, names, v => this.change({ from: v })),
        pick('To', to, names, v => this.change({ to: v }))]}
      ${pick(heavy ? 'For' : 'Over', span, SPANS[kind], v => this.setState({ span: Number(v) }))}
      <label class="dialrow"><input type="range" min="1" max="100" step="1" value=${percent} aria-label="Percent"
      onInput=${ev => this.change({ percent: Number(ev.target.value) })} /><b class="num">${percent}\u202f%</b></label>
      <div class="expects" aria-live="polite">${expectTable(expected)}</div>
      ${heavy ? html`<label class="type"><span>Type <b>${name}</b> to confirm</span>
        <input type="text" autocomplete="off" spellcheck="false" value=${typed}
        onInput=${ev => this.setState({ typed: ev.target.value })} /></label>` : null}
      ${told ? html`<p class="warn" role="alert">${mark('down', 14)}<span>${told}</span></p>` : null}
      <div class="acts"><button class="btn" type="button" onClick=${() => this.close()}>Keep it</button>
      <button class="btn danger" type="button" disabled=${!ready || !expected} onClick=${() => this.go(refused)}>
      ${busy ? 'Asking\u2026' : refused ? 'Begin anyway' : 'Begin'}</button></div>`);
  }
}
