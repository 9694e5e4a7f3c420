// The frame of the page: the address selects the view, the world has the figures; a change of either draws the page
// again.

import { render, h } from '../vendor/preact.js';
import { html, Component, mark, usd, ago, clock, forgetTokens } from './ui.js';
import { world } from './world.js';
import { hasToken, setToken } from './api.js';
import { redrawCharts } from './chart.js';
import * as views from './views.js';
import { why } from './views-why.js';
import { config } from './views-config.js';
import { sites } from './views-site.js';
import { ActionDialog, TokenDialog } from './actions.js';
import { OperationDialog, operationBanner } from './operations.js';

const root = document.documentElement, dark = matchMedia('(prefers-color-scheme: dark)');
const NAV = [['map', 'Map'], ['services', 'Services'], ['clusters', 'Clusters'], ['why', 'Why'],
  ['decisions', 'Decisions'], ['config', 'Config'], ['cost', 'Cost']];
const PAGES = { map: views.map, services: views.services, clusters: views.clusters, why, decisions: views.decisions,
  config, cost: views.cost, sites };

// Views in which every figure is this proxy's own. On the others, each such figure says so itself.
const OWN = new Set(['services', 'clusters', 'decisions', 'cost', 'why']);

let choice = null;
try { choice = localStorage.getItem('tidegate-theme'); } catch { /* not kept */ }
function theme() { root.dataset.theme = choice || (dark.matches ? 'dark' : 'light'); forgetTokens(); redrawCharts(); }
theme(); dark.addEventListener('change', theme);
function flip() { choice = root.dataset.theme === 'dark' ? 'light' : 'dark';
  try { localStorage.setItem('tidegate-theme', choice); } catch { /* not kept */ } theme(); }

function address() {
  const [path, query = ''] = (location.hash.replace(/^#\/?/, '') || 'map').split('?'),
    [page, ...rest] = path.split('/');
  const arg = rest.map(x => { try { return decodeURIComponent(x); } catch { return x; } });
  return { page: PAGES[page] ? page : 'map', arg, query: new URLSearchParams(query) };
}
function setQuery(key, value) {
  const [path, query = ''] = (location.hash || '#/map').split('?'), q = new URLSearchParams(query);
  if (value === null) q.delete(key); else q.set(key, value);
  location.hash = path + ([...q].length ? '?' + q : '');
}

class App extends Component {
  constructor() { super(); this.state = { dialog: null }; this.act = dialog => this.setState({ dialog });
    this.ask = () => this.setState({ dialog: { token: true } }); this.done = () => this.setState({ dialog: null }); }
  // On a narrow screen the navigation scrolls to the view that is open.
  componentDidUpdate() {
    const here = document.querySelector('.top nav [aria-current]'), nav = here?.parentElement;
    if (here && here !== this.here) { this.here = here;
      if (here.offsetLeft + here.offsetWidth > nav.clientWidth) nav.scrollLeft = here.offsetLeft - 80; }
  }
  componentDidMount() { this.componentDidUpdate(); }
  top(page) {
    const p = world.status ? world.proxies(world.site) : null, off = world.phase !== 'live' || world.cold,
      t = world.totals(), bad = world.status && !world.status.config.last_reload.ok;
    return html`<header class="top"><a class="brand" href="#/map"><svg viewBox="0 0 24 24" width="22" height="22"
      aria-hidden="true" class="logo"><path class="posts" d="M5 3v18M19 3v18" />
      <path class="wave" d="M5 9.5c3.5-3.3 7-3.3 7 0s3.5 3.3 7 0M5 15.5c3.5-3.3 7-3.3 7 0s3.5 3.3 7 0" /></svg>
      <span class="site">${world.site || 'tidegate'}</span></a>
      <nav aria-label="Views">
        ${NAV.map(([id, name]) => html`<a key=${id} href=${'#/' + id}
        aria-current=${id === page || (id === 'map' && page === 'sites') ? 'page' : null}>${name}
        ${id === 'config' && bad ? html`<i class="flag" title="the file is not in force"></i>` : null}</a>`)}</nav>
      <div class="facts"><span class=${'fact pulse ' + (off ? 'off' : '')}
        title=${p?.alone
        ? 'this process alone: no fleet is configured, so other proxies of this site are not in these figures'
        : 'proxies of this site that report, and the age of the oldest report'}><i class="beat"></i>
        <span><b class="num">${p ? `${p.heard} of ${p.all}` : '\u2013'}</b>
        <span class="wide"> ${p && p.all !== 1 ? 'proxies' : 'proxy'}</span>, ${world.phase === 'loading' ? 'asking'
        : world.phase === 'denied' ? 'locked' : world.cold ? `${ago(world.age)} old`
        : `${p?.age || 1} s old`}</span></span>
      ${world.status ? html`<a class="fact gen" href="#/config" title="configuration in force">gen <b class="num">
        ${world.status.config.generation}</b>${bad ? mark('down', 12) : null}</a>` : null}
      ${world.services.length ? html`<a class="fact" href="#/cost" title=${`spend now, all services${world.one ? `, ${world.one}` : ''}`}>
        <b class="num">${usd(t.usd)}</b>/h</a>` : null}
      ${hasToken()
        ? html`<button class="fact ro plainbtn" type="button" title="forget the token: read only again"
        onClick=${() => { setToken('', ''); update(); }}>${mark('lock', 13, 'hand')}
        <span class="wide">unlocked</span></button>`
        : html`<button class="fact ro plainbtn" type="button"
        title="nothing can be changed from here; enter a token to change that" onClick=${this.ask}>${mark('lock', 13)}
        <span class="wide">read only</span></button>`}
      <button class="ghost" type="button" aria-label="Light or dark" onClick=${flip}>
        <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true"><circle cx="8" cy="8" r="5.5" class="m0" />
        <path d="M8 2.5a5.5 5.5 0 0 1 0 11Z" class="m1" /></svg></button></div></header>`;
  }
  banner() {
    const s = world.status, show = (tone, glyph, b, more, link, go) =>
      html`<div class=${'banner t-' + tone} role="status">${mark(glyph, 16)}<p><b>${b}</b> ${more}</p>
      ${link ? html`<a href=${go}>${link}</a>` : null}</div>`;
    if (world.cold) return html`<div class="banner t-none" role="status">${mark('stale', 16)}
      <p>
      <b>Disconnected.</b> ${world.retry > performance.now()
      ? `Trying again in ${Math.ceil((world.retry - performance.now()) / 1000)} s.` : 'Trying again.'}</p>
      <button class="linklike" type="button" onClick=${() => world.start()}>Try now</button></div>`;
    if (s && !s.config.last_reload.ok) {
      const lines = String(s.config.last_reload.error || '').split('\n');
      const n = lines.filter(line => line && !/: warning: /.test(line)).length;
      const problems = n === 1 ? 'It has one problem' : `It has ${n} problems`;
      const since = clock(Date.parse(s.config.loaded_at) / 1000);
      const c = s.config.source, what = c ? `The value of ${c.bucket}/${c.key}` : 'The file on disk';
      return show('lost', 'down', `${what} is not in force.`,
        `${problems}; generation ${s.config.generation} stays in force since ${since}.`, 'See why', '#/config');
    }
    const from = s?.config.source;
    if (from && !from.connected && (from.error || from.last_good)) return show('none', 'stale',
      from.last_good ? 'The last good configuration is in force.' : 'Changes of the configuration are not seen.',
      `${from.bucket}/${from.key} cannot be read: ${from.error || 'not connected yet'}.`, 'See more', '#/config');
    if (s?.draining) return show('hand', 'draining', 'This proxy is draining.',
      'It takes no new connections and ends soon.');
    const silent = world.status ? world.sites().filter(x => world.siteAge(x.name)) : [];
    if (silent.length) return show('none', 'stale',
      `${world.sites().length - silent.length} of ${world.sites().length} sites heard.`,
      silent.map(x => `${x.name}: ${ago(world.siteAge(x.name))} old`).join(', ') + '.');
    return null;
  }
  render(_, { dialog }) {
    const { page, arg, query } = address(), props = { arg, query, setQuery, act: this.act, ask: this.ask },
      View = PAGES[page];
    const empty = !world.status,
      main = empty ? (world.phase === 'denied' ? html`<${views.Verdict} ask=${this.ask} />` : views.loading())
      : View.prototype instanceof Component ? h(View, { ...props, key: page }) : html`${View(props)}`;
    return html`${this.top(page)}${this.banner()}${operationBanner(this.act)}
      <main id="main" key=${page} tabindex="-1" class=${`v-${page}${world.cold ? ' cold' : ''}`}>
      ${world.one && OWN.has(page) ? html`<p class="scope num">${`Figures of ${world.one} at ${world.site}`}</p>` : null}
      ${main}</main>
      <footer class="foot"><span>tidegate ${world.status?.version || ''}</span>
        ${world.status ? html`<span>${world.site}, ${world.status.environment}</span>
        <span class="num">gen ${world.status.config.generation}</span>
        <span class="num">up ${ago(world.status.uptime_s)}</span>` : null}
        <span class="num">${clock(Date.now() / 1000)} UTC</span></footer>
      ${dialog
        ? (dialog.token
        ? html`<${TokenDialog} key="token" done=${this.done}
        changed=${() => { if (world.phase !== 'live') world.start(); update(); }} />`
        : dialog.operation
        ? html`<${OperationDialog} key=${dialog.kind + dialog.name} ...${dialog} done=${this.done} />`
        : html`<${ActionDialog} key=${dialog.verb + dialog.name} ...${dialog} done=${this.done} />`) : null}`;
  }
}

const app = document.getElementById('app');
let asked = 0;
// At most one drawing per frame, however many events arrive.
function update() {
  if (!asked) asked =
  requestAnimationFrame(() => { asked = 0; drawn = performance.now();
  render(html`<${App} version=${world.version} />`, app); }); }
let drawn = 0, timer = 0;
world.wake = update;

// Nothing runs while the tab is hidden: the stream is closed, and the missed data are requested on return.
function run() {
  clearInterval(timer);
  if (document.hidden) { world.stop(); return; }
  timer = setInterval(() => { if (performance.now() - drawn > 950) update(); }, 500);
  world.start(); update();
}
document.addEventListener('visibilitychange', run);
addEventListener('hashchange', () => { update(); scrollTo(0, 0); });
document.querySelector('.skip').addEventListener('click',
  ev => { ev.preventDefault(); document.getElementById('main')?.focus(); });
// One digit for each view, in the order of the navigation.
addEventListener('keydown', ev => {
  if (ev.ctrlKey || ev.metaKey || ev.altKey || ev.target.closest?.('input, select, textarea, dialog')) return;
  const n = Number(ev.key);
  if (n >= 1 && n <= NAV.length) location.hash = '#/' + NAV[n - 1][0];
});
// For tests and debugging: the figures of the page.
window.tidegate = world;
run();
