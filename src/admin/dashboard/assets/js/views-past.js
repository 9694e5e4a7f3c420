// One exchange that is over: where it went and why, by its request id, with the scores of that time.

import { html, kpi, rules, mark, rich, ms, ago, clock } from './ui.js';

const plain = text => String(text || '').replaceAll('_', ' ');
const part = text => { try { return decodeURIComponent(text); } catch { return text; } };
const BECAUSE = {
  nearest: 'the nearest', only: 'the only one that may serve it', affinity: 'where its client was served before',
  spill: 'nearer clusters were full', failover: 'nearer clusters were down or failed it',
    dial: 'a nearer cluster was dialled down',
  returning: 'a nearer cluster was just returning', panic: 'all clusters were down, so it was tried all the same',
  hedge: 'an earlier attempt was slow, and this one answered first',
};
const TONE = { nearest: 'home', only: 'home', affinity: 'home', dial: 'hand' };

// The address of a request's live explanation.
export const liveHref = x => `#/why/${encodeURIComponent(x.host)}`
  + `${x.path.split('/').map(p => encodeURIComponent(part(p))).join('/')}${x.method === 'GET' ? ''
    : '?method=' + x.method}`;
export const pastHref = id => `#/why?id=${encodeURIComponent(id)}`;

export function pastHead(x) {
  const tone = x.refusal ? 'lost' : TONE[x.reason] || 'away';
  const glyph = { lost: 'down', home: 'up', hand: 'draining', away: x.reason === 'spill' ? 'full' : 'spillev' }[tone];
  const head = x.refusal
    ? [{ b: 'Refused', tone }, `: ${plain(x.refusal)}`]
    : [x.reason === 'nearest' || x.reason === 'only' || x.reason === 'affinity' ? 'Went to '
      : 'Went on to ', { b: x.cluster, tone },
      `, ${x.reason === 'affinity' || x.reason === 'nearest' || x.reason === 'only' ? ''
        : 'because '}${BECAUSE[x.reason] || plain(x.reason)}`];
  const sub = x.why ? `${x.cluster}: ${x.why}.`
    : x.rejected.map(r => r.replace(/:([^:]*)$/, (_, w) => ' is out: ' + plain(w))).join('; ');
  const t = Date.parse(x.time) / 1000, age = Math.max(0, Date.now() / 1000 - t);
  return html`<section class=${'verdict inline t-' + tone}><span class="vmark">${mark(glyph, 22)}</span>
    <div class="vtext"><h1>${rich(head)}</h1><p class="vsub">${sub}</p></div>
    <div class="vside"><span class="since"><b class="num">${ago(age)}</b><small>ago</small></span>
      <a class="btn" href=${liveHref(x)}>And now?</a></div></section>`;
}

export function pastFacts(x) {
  const t = Date.parse(x.time) / 1000, span = (value, none) => value === null ? none : `${ms(value)} ms`;
  return html`<div class="kpis">${kpi('Ended', clock(t), '', `UTC, ${x.time.slice(0, 10)}`)}
      ${kpi('Answered', x.status ? String(x.status) : '\u2013', '',
        x.refusal ? `tidegate-refusal: ${x.refusal}` : x.status ? 'status to the client' : 'nothing was sent')}
      ${kpi('Took', ms(x.duration_ms), 'ms', 'request head to end of response')}
      ${kpi('First byte', ms(x.upstream_first_byte_ms), x.upstream_first_byte_ms === null ? '' : 'ms',
        x.attempts ? 'from sending it' : 'never sent')}
      ${kpi('Attempts', String(x.attempts), '',
        x.attempts > 1 ? 'retries and hedges included' : x.attempts ? 'no retry' : 'no cluster was asked')}</div>
    <section class="panel pastfacts">${rules([
      ['request', html`<b>${x.method}</b> ${x.host}${x.path}`], ['request id', x.request_id, 'mono'],
        ['listener', x.listener],
      ['endpoint', x.endpoint || '\u2013', 'mono'],
      ['connection', span(x.upstream_connect_ms, x.attempts ? 'was open already' : '\u2013')],
      ['passed over', x.rejected.map(r => r.replace(/:([^:]*)$/, (_, w) => `: ${plain(w)}`)).join(', ') || 'none'],
    ])}</section>`;
}

// Nothing is kept of this id: what the proxy says about it.
export function pastUnknown(id, told) {
  const since = told.body?.kept_since || {}, at = text => text ? `${clock(Date.parse(text) / 1000)} UTC` : 'the start';
  return html`<section class="verdict inline t-none"><span class="vmark">${mark('stale', 22)}</span>
      <div class="vtext"><h1>Nothing is kept of this request</h1>
      <p class="vsub">
        ${told.status === 404 && told.body?.error ? `${told.body.error[0].toUpperCase()}${told.body.error.slice(1)}`
        : 'The proxy did not answer this question.'}</p></div></section>
    ${told.status === 404 ? html`<section class="panel pastfacts">${rules([['request id', id, 'mono'],
      ['kept since', `${at(since.nearest)} of exchanges at the nearest cluster`],
        ['', `${at(since.others)} of all others`]])}</section>` : null}`;
}
