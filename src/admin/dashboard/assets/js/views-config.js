// The configuration: the keys in force, the differences of the file, the problems of a rejected file, and the manual
// changes.

import { html, Component, section, rules, mark, rich, ago, clock } from './ui.js';
import { world } from './world.js';
import { get } from './api.js';

// The configuration as lines of YAML, for reading: keys unchanged, values as JSON unless they are plain words.
export function lines(value, depth = 0, out = []) {
  const pad = '  '.repeat(depth), scalar = v => v === null ? '' : typeof v === 'string'
    ? (/^[\w./:@+-]+( [\w./:@+-]+)*$/.test(v) ? v : JSON.stringify(v)) : JSON.stringify(v);
  const flat = v => v === null || typeof v !== 'object'
    || (Array.isArray(v) ? v.every(x => x === null || typeof x !== 'object') : Object.keys(v).length === 0);
  for (const [k, v] of Object.entries(value)) {
    const key = Array.isArray(value) ? '-' : `${/^[\w.*-]+$/.test(k) ? k : JSON.stringify(k)}:`;
    if (flat(v)) out.push({ key: pad + key,
      text: v !== null && typeof v === 'object' ? (Array.isArray(v) ? `[${v.map(scalar).join(', ')}]` : '{}')
      : scalar(v) });
    else { out.push({ key: pad + key, text: '' }); lines(v, depth + 1, out); }
  }
  return out;
}

export class config extends Component {
  constructor() { super(); this.state = { diff: null, audit: null, find: '' }; }
  componentDidMount() { this.ask(); this.timer = setInterval(() => { if (!document.hidden && !world.cold) this.ask(); },
    2000); }
  componentWillUnmount() { clearInterval(this.timer); }
  async ask() { const [d, a] = await Promise.all([get('api/v1/config/diff'), get('api/v1/audit')]);
    this.setState({ diff: d.ok ? d.body : null, audit: a.ok ? a.body : null }); }

  render({ act }, { diff, audit, find }) {
    const c = world.status?.config; if (!c) return html`<div class="skel s2"></div>`;
    const bad = !c.last_reload.ok, problems = diff?.problems || [],
      errors = problems.filter(p => p.severity === 'error'), count = errors.length,
      at = Date.parse(c.last_reload.at) / 1000, loaded = Date.parse(c.loaded_at) / 1000,
      changed = diff?.changes?.length || 0, key = c.source, what = key ? 'value' : 'file',
      put = key ? 'Putting a value' : 'Saving the file';
    const head = html`<section class=${'verdict ' + (bad ? 't-lost' : 't-home')}>
      <span class="vmark">${mark(bad ? 'down' : 'up', 26)}</span>
      <div class="vtext">
      <h1>
      ${rich(bad ? [{ b: count > 1 ? `${count} problems` : 'A problem' },
      ` keep${count > 1 ? '' : 's'} the ${what} out of force`] : [key ? `Revision ${key.revision} of the key is in force`
      : 'The file on disk is in force'])}
      </h1>
      <p class="vsub">
        ${bad ? `Refused at ${clock(at)}. Generation ${c.generation} stays in force; no request is affected.`
        : `Generation ${c.generation} since ${clock(loaded)}, ${ago(Math.max(0,
        world.wall - loaded))} ago. ${put} puts it in force within a second.`}</p></div>
        ${world.token && !world.cold
        ? html`<div class="vside"><button class="btn" type="button"
        onClick=${() => act({ verb: 'reload', kind: 'configuration', name: '' })}>Reload\u2026</button></div>`
        : null}</section>`;
    const probs = bad ? section('Problems', html`<span class="hint mono">${diff?.file || ''}</span>`,
      html`<ol class="problems">
      ${(count ? [...errors, ...problems.filter(p => p.severity === 'warning')]
      : [{ message: c.last_reload.error }]).map(p =>
      html`<li class=${p.severity === 'warning' ? 'warning' : ''}>
      <span class="at num">${p.file && diff && p.file !== diff.file ? `${p.file.split('/').pop()}:` : ''}${p.line ? `${p.line}:${p.column}` : ''}</span>
      <span>${p.path ? html`<b class="mono">${p.path}</b>` : null}
      ${p.severity === 'error' ? null : html`<small class="tag">${p.severity}</small>`}<span class="msg">${p.message}</span>
      ${p.hint ? html`<small>${p.hint}</small>` : null}</span></li>`)}</ol>`) : null;
    const row = x => { const p = errors.find(q => q.path === x.path || (q.line && q.line === x.line
      && q.file === (x.file || diff.file)));
      return [x.in_force !== null ? html`<div class="dl del" role="row"><span class="ln"></span>
      <span class="sg">\u2212</span><span class="tx">${x.path}: ${x.in_force}</span></div>` : null,
      x.on_disk !== null ? html`<div class="dl add" role="row"><span class="ln">${x.line || ''}</span>
      <span class="sg">+</span><span class="tx">${p ? html`<mark>${x.path}</mark>` : x.path}: ${x.on_disk}</span></div>`
      : null, p ? html`<div class="dl prob"><span class="ln"></span><span class="sg"></span>
      <span class="tx">${mark('down', 13)}<span><b>${p.message}</b>
      ${p.hint ? html`<small>${p.hint}</small>` : null}</span></span></div>` : null]; };
    const compare = diff ? section(`${key ? 'Value' : 'File'} against in force`, changed
      ? html`<span class="hint"><i class="sw k-del"></i>in force <i class="sw k-add"></i>${key ? 'in the key' : 'on disk'}</span>`
      : html`<span class="hint mono">${diff.file}</span>`,
      changed ? html`<div class="diff mono" role="table" aria-label=${`${key ? 'Value' : 'File'} and in force`}>
      ${diff.changes.slice(0, 200).map(row)}</div>`
      : html`<p class="note">
      ${diff.comparable ? (bad && !count ? `The ${what} could not be read.` : `No difference: the ${what} is in force.`)
      : diff.note || `The ${what} is not valid YAML and cannot be compared.`}</p>`) : null;
    const reloads = world.events.filter(e => e.kind === 'reload').slice(-6).reverse(),
      all = world.config ? lines(world.config) : [], shown = find ? withParents(all, find.toLowerCase()) : all;
    const hand = world.clusters.filter(x => x.dial_percent !== (world.set('clusters', x.name)?.dial ?? 100));
    return html`${head}<div class="cols"><div class="stack">${probs}${compare}
      ${section('In force, every key',
        html`<input class="find" type="search" placeholder="find" aria-label="Find in the configuration" value=${find}
        onInput=${ev => this.setState({ find: ev.target.value })} />`,
        html`<div class="inforce mono" tabindex="0" role="region" aria-label="Configuration in force">
        ${shown.slice(0, 2000).map(l => html`<div><b>${l.key}</b> ${l.text}</div>`)}
        ${shown.length ? null : html`<p class="note">No key matches.</p>`}
        ${shown.length > 2000 ? html`<p class="note">${shown.length - 2000} more lines: GET /api/v1/config.</p>`
        : null}</div>`)}</div>
      <div class="stack">
        ${section('In force', html`<span class="hint">values of header fields are not shown</span>`,
        rules([['generation', String(c.generation), 'num'], ['hash', c.hash, 'mono'],
        ['loaded', clock(loaded) + ' UTC', 'num'], ['from', diff?.file || '\u2013', 'mono'],
        ...(key ? [['revision', `${key.revision}${key.last_good ? ', the last good one in state_dir' : ''}`, 'num'],
        ['NATS', key.connected ? 'connected' : key.error || 'not connected yet', '']] : [])]))}
      ${section('Reloads', null, reloads.length ? html`<ol class="reloads">
        ${reloads.map(e => html`<li>${mark(e.ok ? 'up' : 'down', 14, e.ok ? 'home' : 'lost')}
        <span class="num dim">${clock(e.t)}</span><b>${e.ok ? `generation ${e.generation}` : 'refused'}</b>
        <span class="dim"></span></li>`)}</ol>` : html`<p class="note">No reload is recorded in this process.</p>`)}
      ${section('By hand', html`<span class="hint">beats the file until taken back</span>`,
        [hand.length
        ? html`<ul class="mini">
        ${hand.map(x => html`<li>${mark('draining', 14)}<a href=${'#/clusters/' + encodeURIComponent(x.name)}>
        ${x.name}</a><span class="r num">dial ${x.dial_percent}\u202f%</span></li>`)}</ul>`
        : html`<p class="note">No dial, no drain is in force.</p>`,
        audit?.length
        ? html`<ol class="acted">
        ${audit.slice(0, 12).map(a => html`<li><span class="num dim">${clock(Date.parse(a.time) / 1000)}</span>
        <span>
        <b>
        ${a.action === 'reload' ? 'reload' : ['drill', 'shift'].includes(a.action)
        ? `${a.action} of ${a.name}: ${a.message}` : a.percent === null ? `${a.name}: dial taken back` : a.percent === 0
        ? `${a.name} drained` : `${a.name} dialled to ${a.percent}\u202f%`}</b>
        <small>${a.by ? `${a.by}, ` : ''}${a.from}${a.ok ? '' : `, failed: ${a.message}`}</small></span></li>`)}</ol>`
        : null])}</div></div>`;
  }
}
// Lines that contain the words, and the keys above them.
function withParents(all, find) {
  const keep = new Set(), depth = l => l.key.length - l.key.trimStart().length;
  all.forEach((l, i) => { if (!`${l.key} ${l.text}`.toLowerCase().includes(find)) return; keep.add(i); let d = depth(l);
    for (let k = i - 1; k >= 0 && d > 0; k--) if (depth(all[k]) < d) { keep.add(k); d = depth(all[k]); } });
  return all.filter((_, i) => keep.has(i));
}
