// The actions of an operator: drain, undrain, dial and reload. First the expected effect is shown, then confirmation is
// asked for.

import { html, Component, mark, rate, num, ms, usd, pct } from './ui.js';
import { world } from './world.js';
import { siteDial } from './site-acts.js';
import { get, send, setToken, tryToken, operatorName } from './api.js';

export class Dialog extends Component {
  componentDidMount() { this.el.showModal(); }
  // The browser gives the focus back when the dialog closes; only after that the dialog is removed. It may be closed
  // already, by Escape, when the answer to a request comes.
  close() { this.el?.close(); }
  frame(label, inside) {
    return html`<dialog class="confirm" aria-label=${label} ref=${el => { this.el = el; }}
    onClose=${() => this.props.done()} onClick=${ev => { if (ev.target === this.el) this.close(); }}>
    <div class="inside">${inside}</div></dialog>`; }
}

export class TokenDialog extends Dialog {
  async submit(ev) {
    ev.preventDefault();
    const f = new FormData(ev.target), value = String(f.get('token')).trim(), name = String(f.get('name')).trim();
    if (!value) { this.setState({ told: 'A token is needed.' }); return; }
    this.setState({ told: '', busy: true });
    const status = await tryToken(value);
    this.setState({ busy: false });
    if (status === 204) { setToken(value, name); this.close(); this.props.changed(); return; }
    this.setState({ told: status === 401 ? 'The proxy does not know this token.' : status === 403
      ? 'The proxy has no token (admin.token_file), or does not answer under this name.' : status === 0
      ? 'The proxy did not answer.' : `The proxy answered ${status}.` });
  }
  render(_, { told, busy }) {
    return this.frame('Token', html`<h2>Token of the admin API</h2>
      <p>With the token of <code>admin.token_file</code> this page can drain, dial and reload. It stays in this tab.</p>
      <form onSubmit=${ev => this.submit(ev)}>
      <label class="type">Token<input name="token" type="password" autocomplete="off" autofocus /></label>
        <label class="type">Your name, for the audit trail<input name="name" type="text" autocomplete="off"
        maxlength="64" value=${operatorName()} /></label>
      ${told ? html`<p class="warn" role="alert">${mark('down', 14)}${told}</p>` : null}
        <div class="acts"><button class="btn" type="button" onClick=${() => this.close()}>Stay read only</button>
        <button class="btn primary" type="submit" disabled=${!!busy}>
        ${busy ? 'Asking\u2026' : 'Use it'}</button></div></form>`);
  }
}

// What a reload would do: the file is read again, and it is known whether it differs from the configuration in force.
function fileState(told) {
  if (!told) return html`<p class="note wait">Comparing with the configuration in force\u2026</p>`;
  if (!told.ok) return html`<p class="note">${told.status ? `Not compared: the proxy answered ${told.status}.`
    : 'Not compared: the proxy did not answer.'}</p>`;
  const what = world.status?.config.source ? 'value' : 'file', diff = told.body,
    errors = (diff.problems || []).filter(p => p.severity === 'error');
  if (errors.length || !world.status?.config.last_reload.ok) {
    const first = errors[0]?.message || world.status?.config.last_reload.error,
      more = errors.length > 1 ? `, and ${errors.length - 1} more` : '';
    return html`<p class="warn">${mark('down', 14)}<span>
      ${`The ${what} was refused: ${first}${more}. Unless it was changed since, it will be refused again.`}</span></p>`;
  }
  return html`<p class="note">${diff.comparable
    ? `The ${what} has no key that differs: certificates and files that it names are read again.`
    : diff.note || `The ${what} cannot be compared.`}</p>`;
}

// The expected effect as a table.
export function expectTable(e) {
  if (!e) return html`<p class="note wait">Simulating with the current load\u2026</p>`;
  if (e.unknown) return html`<p class="note">No expectation: ${e.unknown}</p>`;
  const rows = [];
  for (const s of e.services) {
    for (const c of s.clusters) if (Math.abs(c.after_rps - c.now_rps) > Math.max(0.5,
      0.02 * s.demand_rps)) rows.push([`${c.name} gets of ${s.name}`, rate(c.now_rps), rate(c.after_rps), false]);
    if (s.after.p99_ms !== null && s.now.p99_ms !== null) rows.push([`p99 of ${s.name}`, `${ms(s.now.p99_ms)} ms`,
      `${ms(s.after.p99_ms)} ms`, s.after.p99_ms > 2 * s.now.p99_ms]);
    if (s.after.refused_rps > 0.02 * s.demand_rps + 0.5
      || s.now.refused_rps > 0.02 * s.demand_rps
      + 0.5) rows.push([`refused of ${s.name}`, rate(s.now.refused_rps), rate(s.after.refused_rps),
      s.after.refused_rps > s.now.refused_rps]);
    if (s.after.usd_per_hour > 0.005 || s.now.usd_per_hour > 0.005) rows.push([`spend of ${s.name}`,
      usd(s.now.usd_per_hour) + '/h', usd(s.after.usd_per_hour) + '/h', false]);
  }
  return [rows.length ? html`<table class="expect"><thead><tr><th></th><th class="r">now</th>
    <th class="r">after</th></tr></thead>
    <tbody>
    ${rows.slice(0, 12).map(([k, a, b, bad]) => html`<tr class=${bad ? 'bad' : ''}><th>${k}</th>
    <td class="r num">${a}</td><td class="r num"><b>${b}</b></td></tr>`)}</tbody></table>`
    : html`<p class="note">No request goes there now: nothing moves.</p>`,
    ...(e.warnings || []).map(w => html`<p class="warn">${mark('down', 14)}<span>${w}</span></p>`),
    e.assumed?.length
    ? html`<details class="assumed"><summary>Simulated in ${e.seconds} virtual seconds; assumed:</summary>
    <ul>${e.assumed.map(a => html`<li>${a}</li>`)}</ul></details>` : null];
}

// An action applies to the proxy that is asked: the line says so where the site has more of them.
export function oneNote() {
  const p = world.proxies(world.site), name = world.members().find(m => m.self)?.instance;
  if (!p || p.all < 2) return null;
  const others = p.all === 2 ? 'the other proxy' : `the ${p.all - 1} other proxies`;
  const said = `At this proxy alone${name ? ` (${name})` : ''}: ${others} of ${world.site} ${p.all === 2 ? 'keeps' : 'keep'} `
    + 'what is in force there.';
  return html`<p class="note one">${said}</p>`;
}

const dialOf = (kind, name) => kind === 'sites'
  ? siteDial(world.sites().find(x => x.name === name) || { clusters: [] })
  : world.byName.get(name)?.dial_percent ?? 100;
const WORDS = { drain: 'Drain', undrain: 'Undrain', dial: 'Dial', reload: 'Reload' };
export class ActionDialog extends Dialog {
  constructor(props) { super(props);
    this.state = { percent: props.verb === 'dial' ? dialOf(props.kind, props.name) : null, typed: '', expected: null,
    told: '', busy: false }; }
  componentDidMount() { super.componentDidMount(); this.expect(); }
  componentWillUnmount() { clearTimeout(this.soon); }
  async expect() {
    const { verb, kind, name } = this.props;
    if (verb === 'reload') {
      this.setState({ expected: await get('api/v1/config/diff') });
      return;
    }
    const percent = verb === 'drain' ? '&percent=0' : verb === 'undrain' ? '' : '&percent=' + this.state.percent;
    this.setState({ expected: null });
    const told = await get(`api/v1/expect?kind=${kind}&name=${encodeURIComponent(name)}${percent}`, 20);
    this.setState({
      expected: told.ok ? told.body : { unknown: typeof told.body === 'string' ? told.body.trim()
      : 'It cannot be simulated now.' } });
  }
  async go() {
    const { verb, kind, name } = this.props, at = `api/v1/${kind}/${encodeURIComponent(name)}`;
    this.setState({ busy: true, told: '' });
    const told = verb === 'reload' ? await send('POST', 'api/v1/reload') : verb === 'dial'
      ? await send('PUT', at + '/dial', { percent: this.state.percent }) : await send('POST', `${at}/${verb}`);
    this.setState({ busy: false });
    if (told.ok && !told.body?.warning) { this.close(); return; }
    if (told.ok) { this.setState({ told: told.body.warning, done: true }); return; }
    if (told.status === 401) setToken('', '');
    const problems = told.body?.problems;
    this.setState({ told: told.status === 401 ? 'The proxy no longer accepts the token.' : problems
      ? `${problems.length} problems: ${problems[0]?.message}` : told.status === 0
      ? 'The proxy did not answer: the action may or may not have taken effect.'
      : `${told.status}: ${typeof told.body === 'string' ? told.body.trim() : ''}` });
  }
  render({ verb, kind, name }, { percent, typed, expected, told, busy, done }) {
    const heavy = verb === 'drain' || (verb === 'dial' && percent === 0), ready = !busy && (!heavy || typed === name);
    const clusters = kind === 'sites' ? world.sites().find(x => x.name === name)?.clusters.length || 0 : 0;
    const all = clusters > 1 ? `All ${clusters} clusters of this site: ` : clusters ? 'The cluster of this site: ' : '';
    const what = all + { drain: 'No new exchanges; exchanges in flight are completed.',
      undrain: kind === 'sites' ? 'The dial of each cluster applies again.' : kind === 'services'
      ? 'Its shift ends at once: traffic goes by distance and load again.'
      : 'The dial of the configuration file applies again.',
      dial: 'This percentage of the exchanges offered to the cluster is accepted; the rest goes to the next clusters.',
      reload: 'The configuration is read again now. If it has a problem, the configuration in force stays.' }[verb];
    const range = ev => { this.setState({ percent: Number(ev.target.value) }); clearTimeout(this.soon);
      this.soon = setTimeout(() => this.expect(), 400); };
    return this.frame(`${WORDS[verb]} ${name}`,
      html`<h2>${WORDS[verb]} ${name || 'the configuration'}?</h2><p>${what}</p>${oneNote()}
      ${verb === 'dial'
        ? html`<label class="dialrow"><input type="range" min="0" max="100" step="5" value=${percent} onInput=${range}
        aria-label="Percent" /><b class="num">${pct(percent / 100)}</b></label>` : null}
      <div class="expects" aria-live="polite">
        ${verb === 'reload' ? fileState(expected) : expectTable(expected)}</div>
      ${heavy ? html`<label class="type"><span>Type <b>${name}</b> to confirm</span>
        <input type="text" autocomplete="off" spellcheck="false" value=${typed}
        onInput=${ev => this.setState({ typed: ev.target.value })} /></label>` : null}
      ${told ? html`<p class="warn" role="alert">${mark('down', 14)}<span>${told}</span></p>` : null}
      <div class="acts"><button class="btn" type="button" onClick=${() => this.close()}>
        ${done ? 'Close' : 'Keep it'}</button>
        ${done ? null
        : html`<button class=${'btn ' + (heavy ? 'danger' : 'primary')} type="button" disabled=${!ready}
        onClick=${() => this.go()}>
        ${busy ? 'Doing it\u2026' : verb === 'dial' ? `Dial to ${percent}\u202f%` : WORDS[verb]}</button>`}</div>`);
  }
}
