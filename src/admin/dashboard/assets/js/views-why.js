// The view Why: the decision for one request from left to right, in the words of `tidegate explain`.

import { html, Component, rules, mark, rich, ms, pct, words } from './ui.js';
import { world } from './world.js';
import { get } from './api.js';
import { pastHead, pastFacts, pastUnknown } from './views-past.js';

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'];
const REASON = { data_class: 'does not accept its data', environment: 'is of another environment',
  needs: 'does not offer what it needs', down: 'down', draining: 'draining', degraded: 'degraded' };
// A path as a browser sends it; parts that are already encoded stay unchanged.
const sent = path => encodeURI(path).replace(/%25([0-9a-f]{2})/gi, '%$1');
const plain = text => String(text || '').replaceAll('_', ' ');

// Typed text stays until the form is sent: a response that arrives meanwhile does not draw the form again.
class Form extends Component {
  shouldComponentUpdate(next) { return next.listeners.length !== this.props.listeners.length; }
  render() {
    const { q, listeners, submit } = this.props;
    return html`<form class="whyform" onSubmit=${submit}>
      <label class="short"><span>Method</span>
        <select name="method">
        ${METHODS.map(m => html`<option selected=${m === q.method}>${m}</option>`)}</select></label>
      <label class="grow"><span>Host</span><input name="host" value=${q.host} spellcheck="false"
        autocomplete="off" /></label><label class="grow"><span>Path</span>
        <input name="path" value=${q.path} spellcheck="false" autocomplete="off" /></label>
      ${listeners.length > 1 ? html`<label class="short"><span>Listener</span>
        <select name="listener"><option value="">first http</option>
        ${listeners.map(([name]) => html`<option value=${name} selected=${name === q.listener}>${name}</option>`)}
        </select></label>` : html`<input type="hidden" name="listener" value=${q.listener} />`}
      <button class="btn primary" type="submit">Explain</button></form>`;
  }
}

// The other question: one request that is over, by its id.
class IdForm extends Component {
  shouldComponentUpdate(next) { return next.id !== this.props.id; }
  render({ id, submit }) {
    return html`<form class="whyform byid" onSubmit=${submit}>
      <label class="grow"><span>Or a request that is over, by its id (X-Request-Id, in the access log)</span>
        <input name="id" class="mono" value=${id} spellcheck="false" autocomplete="off" maxlength="128" /></label>
      <button class="btn" type="submit">Find</button></form>`;
  }
}

export class why extends Component {
  constructor() { super(); this.state = { key: '', told: null }; }
  componentDidMount() { this.ask();
    this.timer =
    setInterval(() => { if (!document.hidden && !world.cold && this.state.told?.ok && !this.id) this.ask(); }, 1000);
    this.sizer = new ResizeObserver(() => this.fan()); }
  componentDidUpdate() { if (this.key() !== this.state.key) this.ask(); this.fan();
    if (this.flow && this.seen !== this.flow) { this.seen = this.flow; this.sizer.observe(this.flow); } }
  componentWillUnmount() { clearInterval(this.timer); this.sizer.disconnect(); }
  question() {
    const { arg, query } = this.props, first = world.services[0] ? world.example(world.services[0].name)
      : { host: '', path: '/' };
    const host = arg.length ? arg[0] : first.host,
      path = arg.length > 1 ? '/' + arg.slice(1).join('/') : arg.length ? '/' : first.path;
    return { host, path, method: query.get('method') || 'GET',
      listener: query.get('listener') || (arg.length ? '' : first.listener || '') };
  }
  get id() { return this.props.query.get('id') || ''; }
  key() { return this.id ? 'id ' + this.id : JSON.stringify(this.question()); }
  async ask() {
    if (this.id) {
      const key = this.key(), told = await get('api/v1/why/' + encodeURIComponent(this.id));
      if (key === this.key()) this.setState({ key, told });
      return;
    }
    const q = this.question(), key = this.key(),
      ask = new URLSearchParams({ host: q.host, path: sent(q.path), method: q.method });
    if (q.listener) ask.set('listener', q.listener);
    const told = await get('api/v1/explain?' + ask);
    if (key === this.key()) this.setState({ key, told });
  }
  find(ev) {
    ev.preventDefault();
    const id = String(new FormData(ev.target).get('id')).trim();
    if (!id) return;
    if (id === this.id) this.ask(); else location.hash = '#/why?id=' + encodeURIComponent(id);
  }
  submit(ev) {
    ev.preventDefault();
    const f = new FormData(ev.target), path = String(f.get('path')), host = String(f.get('host')).trim(),
      more = new URLSearchParams();
    if (f.get('method') !== 'GET') more.set('method', f.get('method'));
    if (f.get('listener')) more.set('listener', f.get('listener'));
    location.hash =
      `#/why/${encodeURIComponent(host)}/${path.replace(/^\//,
      '').split('/').map(encodeURIComponent).join('/')}${[...more].length ? '?' + more : ''}`;
  }
  // Streams from the route to the lanes, as wide as their shares.
  fan() {
    const svg = this.svg, flow = this.flow; if (!svg || !flow) return;
    const card = flow.querySelector('.routecard')?.getBoundingClientRect(), box = svg.getBoundingClientRect();
      if (!card || !box.width) return;
    svg.setAttribute('viewBox', `0 0 ${box.width} ${box.height}`);
    const lanes = [...flow.querySelectorAll('.lane')], width = l => Number(l.dataset.w),
      total = lanes.reduce((a, l) => a + width(l), 0), y0 = card.top - box.top + Math.min(card.height / 2, 40);
    let acc = 0;
    svg.querySelectorAll('path').forEach((path, i) => {
      const l = lanes[i]; if (!l) return;
      const r = l.getBoundingClientRect(), y = r.top - box.top + r.height / 2, w = width(l),
        ys = y0 - total / 2 + acc + w / 2; acc += w;
      path.setAttribute('d', `M0 ${ys}C${box.width * 0.5} ${ys} ${box.width * 0.5} ${y} ${box.width} ${y}`);
    });
  }
  render() {
    const q = this.question(), { told, key } = this.state, listeners = Object.entries(world.config?.listeners || {}),
      ready = told && key;
    const quick = world.services.slice(0, 5).map(s => ({ s, e: world.example(s.name) }));
    const form = html`<${Form} key=${this.props.arg.length ? this.key() : `first ${world.services.length > 0}`} q=${q}
      listeners=${listeners} submit=${ev => this.submit(ev)} />`,
      byId = html`<${IdForm} key=${'id ' + this.id} id=${this.id} submit=${ev => this.find(ev)} />`;
    return html`<section class="pagehead tight"><div><h1>Why?</h1></div></section>
      <div class="whyforms">${form}${byId}</div>
      <div
        class="quick">Try ${quick.map(({ s, e }) =>
        html`<a key=${s.name} href=${world.whyHref(s.name)}
        aria-current=${!this.id && e.host === q.host && e.path === q.path ? 'true' : null}>
        ${s.name}: ${e.l4 ? `listener ${e.listener}` : e.host + e.path}</a>`)}</div>
      ${ready && key === this.key() ? (this.id ? this.past(told) : this.answer(told, q))
        : html`<div class="skel s2 gapped"></div>`}`;
  }
  answer(told, q) {
    const e = told.body;
    if (told.status === 0 || typeof e !== 'object') return this.refused(told.status === 0 ? 'No answer'
      : plain(typeof e === 'string' ? e.trim() : 'No answer'),
      told.status === 0 ? 'The proxy did not answer this question.' : '');
    if (e.refusal) return this.refused(`Nowhere: ${plain(e.refusal)}`,
      e.refusal === 'no_route' ? `No route knows ${q.host}${q.path}. The answer is 404, tidegate-refusal: no_route.`
      : e.refusal === 'method_not_allowed' ? `A route matches, but not for ${q.method}. The answer is 405.`
      : `The answer is ${told.status}, tidegate-refusal: ${e.refusal}.`);
    if (!e.service) return this.fixed(e);
    return this.stream(e);
  }
  past(told) {
    if (!told.ok || typeof told.body !== 'object') return pastUnknown(this.id, told);
    const x = told.body, lanes = x.explanation.permitted.length + x.explanation.rejected.length > 0;
    return html`${pastHead(x)}${pastFacts(x)}${lanes && x.explanation.service ? this.stream(x.explanation, x) : null}`;
  }
  refused(head, sub) { return html`<section class="verdict t-lost inline"><span class="vmark">${mark('down', 22)}</span>
    <div class="vtext"><h1>${head}</h1><p class="vsub">${sub}</p></div></section>`; }
  fixed(e) { return html`<section class="verdict t-home inline"><span class="vmark">${mark('up', 22)}</span>
    <div class="vtext"><h1>Answered by the proxy: <b>${e.answer}</b></h1>
    <p class="vsub">Route ${e.route} needs no cluster.</p></div></section>`; }

  lanes(e) {
    const reason = new Map(e.rejected.map(r => [r.cluster, r.reason])),
      scores = new Map(e.scores.map(s => [s.cluster, s]));
    let left = 1;
    const all = e.permitted.map((name, i) => {
      const s = scores.get(name), why = reason.get(name), live = !why && s, accept = live ? s.accept_ratio : 0,
        share = live ? left * accept : 0;
      left -= share;
      return { name, s, i, off: why, accept, share, cluster: world.byName.get(name) };
    });
    // If all clusters are loaded, some exchanges remain: each cluster gets between what it accepts in order and what it
    // would accept of all exchanges, as the sentences of the proxy say.
    const open = all.filter(l => !l.off && l.s), total = open.reduce((a, l) => a + l.accept, 0);
    const surplus = total - (1 - left);
    if (open.length && left > 0.001) {
      for (const l of open) {
        if (total > 1) l.share += left / surplus * (l.accept - l.share);
        else l.share = total > 0 ? l.accept / total : 1 / open.length;
      }
    }
    for (const r of e.rejected) if (!e.permitted.includes(r.cluster)) all.push({ name: r.cluster, barred: r.reason,
      i: all.length, share: 0, cluster: world.byName.get(r.cluster) });
    return all;
  }
  head(e, lanes) {
    const runs = lanes.filter(l => l.share > 0.005), off = lanes.filter(l => l.off),
      barred = lanes.filter(l => l.barred), one = e.permitted.length === 1;
    if (!runs.length) {
      const because = e.answer === 'no_permitted_cluster' ? `No cluster may serve ${words(e.data)} data.`
        : `${words(off.map(l => `${l.name} is ${plain(l.off)}`))}.${barred.length
        ? ` ${words(barred.map(l => l.name))} may not serve it: ${REASON[barred[0].barred] || plain(barred[0].barred)}.`
        : ''}`;
      return { tone: 'lost', glyph: 'down', head: [{ b: 'Refused', tone: 'lost' },
        e.answer ? `: ${plain(e.answer)}` : ''], sub: because };
    }
    const first = runs[0], sub = `${first.name}: ${first.s.why}.`;
    if (runs.length === 1) {
      const nearer = lanes.slice(0, first.i).filter(l => l.off);
      if (nearer.length) return { tone: 'away', glyph: 'spillev',
        head: [{ b: first.name, tone: 'away' }, ', because ', { b: words(nearer.map(l => l.name)) },
        nearer.length > 1 ? ' are ' : ' is ', plain(nearer[0].off)], sub };
      return { tone: 'home', glyph: 'up', head: [{ b: 'All to ' + first.name },
        one ? ', the only one that may serve it' : ', the nearest'], sub };
    }
    return { tone: 'away', glyph: 'full', head: [{ b: `${Math.round(first.share * 100)} of 100` },
      ' go to ', { b: first.name }, ', ', { b: String(Math.round(runs[1].share * 100)), tone: 'away' },
      ' to ', { b: runs[1].name }], sub };
  }
  stream(e, past = null) {
    const lanes = this.lanes(e), v = past ? null : this.head(e, lanes), set = world.set('services', e.service) || {},
      needs = set.needs || [];
    const total = l => l.s ? (l.s.distance_ms || 0) + (l.s.service_ms || 0) + (l.s.queue_ms || 0) + (l.s.price_ms || 0)
      + (l.s.penalty_ms || 0) : 0, most = Math.max(0.001, ...lanes.map(total));
    const tone = l => l.i === 0 ? 'home' : 'away', width = l => l.share > 0 ? Math.max(2, l.share * 22) : 1.5;
    const lane = l => {
      const alive = !l.barred && !l.off && l.s, s = l.s,
        full = s && s.queue_ms !== null && s.tolerates_ms > 0 && s.queue_ms > 0.8 * s.tolerates_ms,
        w = x => ({ '--w': (100 * (x || 0) / most).toFixed(2) + '%' });
      return html`<li key=${l.name} data-w=${width(l)}
        class=${`lane ${l.barred ? 'barred' : l.off ? 'dead' : l.share > 0.005 ? 'runs' : 'dry'} tone-${tone(l)}${past
        && past.cluster === l.name ? ' took' : ''}`}>
        <div class="step who"><a class="nm" href=${'#/clusters/' + encodeURIComponent(l.name)}>${l.name}</a>
          <small>${l.cluster?.site || ''}</small>
          ${past && past.cluster === l.name ? html`<em class="tookit">took this one</em>` : null}</div>
        <div class="step may"><span class="steplabel">May it?</span>
          ${l.barred ? html`<p class="reason">${mark('maynot', 15)}
          <span><b>May not: </b>${this.bar(l, e, needs)}</span></p>`
          : html`<span class="checks">
          ${[['data ' + (words(e.data) || 'any')], [e.environment],
          ['needs ' + (words(needs) || 'nothing')]].map(([t]) =>
          html`<span class="check">${mark('may', 13, 'dim')}${t}</span>`)}</span>`}</div>
        <div class="step far"><span class="steplabel">How slow?</span>
          ${l.barred ? html`<p class="skipped">not asked</p>` : l.off
          ? html`<p class=${'reason ' + (l.off === 'draining' ? 'hand' : 'lost')}>
          ${mark(l.off === 'draining' ? 'draining' : 'down', 14)}<span>${l.s?.why || plain(l.off)}</span></p>`
          : s
            ? html`<div class="score">
            <span class="scorebar">
            ${[['d', s.distance_ms], ['s', s.service_ms], ['q', s.queue_ms],
            ['p', s.price_ms + s.penalty_ms]].map(([k, x]) => x > 0 ? html`<i key=${k} class=${k} style=${w(x)}></i>`
            : null)}</span>
            <b class="num">${s.total_ms === null || s.total_ms === undefined ? '\u2013' : ms(s.total_ms) + ' ms'}</b>
            <small class="num">distance ${ms(s.distance_ms)}<i class="sep"></i>service ${ms(s.service_ms)}
              <i class="sep"></i>
              <span class=${full ? 'tx-away strong' : ''}>queue ${ms(s.queue_ms)} of ${ms(s.tolerates_ms)}</span>
              ${s.price_ms > 0 ? [html`<i class="sep"></i>`, `price ${ms(s.price_ms)}`] : null}
              ${s.penalty_ms > 0.05 ? [html`<i class="sep"></i>`, `penalty ${ms(s.penalty_ms)}`] : null}</small>
              <p class="saidwhy">${s.why}</p></div>` : html`<p class="skipped">no signal yet</p>`}</div>
        <div class="step much"><span class="steplabel">How much?</span>
          ${alive ? [html`<b class=${'share num ' + (l.share > 0.005 ? 'tx-' + tone(l) : 'dim')}>${pct(l.share)}</b>`,
          html`<small>
          ${l.share < 0.005 ? 'gets no exchanges' : l.accept < 0.995 ? `accepts ${Math.round(l.accept * 100)} of 100`
          : 'accepts all exchanges'}</small>`] : html`<b class="share dim">\u2013</b>`}</div></li>`;
    };
    return html`${past ? html`<h2 class="then">What the proxy knew then</h2>`
      : html`<section class=${'verdict inline t-' + v.tone}><span class="vmark">${mark(v.glyph, 22)}</span>
      <div class="vtext"><h1>${rich(v.head)}</h1><p class="vsub">${v.sub}</p></div></section>`}
      <div class="flow" ref=${el => { this.flow = el; }}>
        <div class="routecard"><span class="steplabel">Route</span><b>${e.route}</b>
        ${rules([['service', html`<a href=${'#/services/' + encodeURIComponent(e.service)}>${e.service}</a>`],
        ['data', words(e.data) || 'any'], ['environment', e.environment], ['strategy', set.strategy || 'nearest']])}
        </div>
        <svg class="fan" aria-hidden="true" preserveAspectRatio="none" ref=${el => { this.svg = el; }}>
          ${lanes.map(l => html`<path key=${l.name} class=${l.share > 0.005 ? 'st-' + tone(l) : 'st-thin'}
          stroke-width=${width(l)} />`)}</svg>
        <ol class="lanes"><li class="lanehead" aria-hidden="true"><span>Cluster</span><span>May it?</span>
          <span>How slow?</span><span>How much?</span></li>${lanes.map(lane)}</ol></div>
      <p class="endpoint">
        ${past ? 'Scores and shares are those of the moment of the decision.' : e.chosen
        ? ['Next: ', html`<b>${e.chosen}</b>`, '. If it fails: another try within the retry budget, by the same rules.']
        : ['The client reads ', html`<code>tidegate-refusal: ${e.answer || 'no_healthy_cluster'}</code>`, '.']}</p>
      <div class="scorekey"><span><i class="sw k-d"></i>distance</span><span><i class="sw k-s"></i>service time</span>
        <span><i class="sw k-q"></i>queue</span>
        <span><i class="sw k-p"></i>price and penalties, as milliseconds</span></div>`;
  }
  bar(l, e, needs) {
    const accepts = world.set('clusters', l.name)?.accepts || [], offers = world.set('clusters', l.name)?.offers || [];
    if (l.barred ===
      'data_class') return `it does not accept ${words(e.data.filter(d => !accepts.includes(d))) || 'this'} data`;
    if (l.barred ===
      'needs') return `it does not offer ${words(needs.filter(n => !offers.includes(n))) || 'what is needed'}`;
    return REASON[l.barred] || plain(l.barred);
  }
}
