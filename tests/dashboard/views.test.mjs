// What can be clicked, reached by the keyboard and seen in every view, before a real proxy.

import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import { fromSource, launch, openPage, screens, watch } from './browser.mjs';
import { binary, Load, Proxy, Toy, until, world } from './rig.mjs';
import { fleet, generated } from './generated.mjs';

let browser, w, proxy, load;
before(async () => {
  browser = await launch();
  w = await world(); proxy = await new Proxy(w.config).start(); load = new Load(proxy.web);
  load.set('shop.example.com/cart', 80); load.set('shop.example.com/checkout/pay', 15); load.set('render.example.com/v1/frames', 8);
}, { timeout: 60000 });
after(async () => { load?.stop(); await browser?.close(); await proxy?.end(); await w?.end(); });

const open = (hash, options) => openPage(browser, hash, { at: proxy, ...options });
const VIEWS = ['map', 'services/shop', 'clusters/shop-idc', 'sites/idc-east', 'why/shop.example.com/cart', 'decisions', 'config', 'cost?range=1h'];
const shown = (page, view) => page.waitForFunction(v => document.querySelector('main')?.classList.contains('v-' + v) && !document.querySelector('.skel'), view.split(/[/?]/)[0]);
// A sentence without its figures, which change each second.
const masked = text => text.replace(/\d+(\.\d+)?/g, '#').replace(/\s+/g, ' ').trim();

test('a click on a flow answers why, in the words of `tidegate explain`', { timeout: 40000 }, async () => {
  const page = await open();
  await page.waitForSelector('.flowlink .band');
  const flow = page.locator('.flowlink:has(title:text("Why shop-idc?"))');
  // In the middle of the curve: the flow, and not the mark at its end.
  const point = await flow.locator('.grip').evaluate(curve => {
    const at = curve.getPointAtLength(curve.getTotalLength() / 2), map = curve.ownerSVGElement.getBoundingClientRect();
    return { x: map.left + at.x, y: map.top + at.y };
  });
  await page.mouse.click(point.x, point.y);
  await page.waitForSelector('main.v-why .lane');
  assert.equal(new URL(page.url()).hash, '#/why/shop.example.com/');
  const told = () => {
    const ran = spawnSync(binary, ['explain', '--admin', proxy.url, '--host', 'shop.example.com', '--path', '/'], { encoding: 'utf8' });
    assert.equal(ran.status, 0, ran.stderr);
    // The sentences follow the table, one line a cluster: its name, and why.
    return ran.stdout.trim().split('\n\n').at(-1).split('\n').map(line => line.split(/\s{2,}/)).map(([name, why]) => `${name}: ${masked(why)}`);
  };
  const pageSays = () => page.$$eval('.lane', lanes => lanes.map(l => [l.querySelector('.nm').textContent, l.querySelector('.saidwhy')?.textContent]));
  await until('both say the same of every cluster', async () => {
    const said = (await pageSays()).map(([name, why]) => `${name}: ${masked(why || '')}`);
    return said.length === 3 && JSON.stringify(said) === JSON.stringify(told());
  }, 15);
  // What may not serve a request has the same reason in both.
  await page.goto(`${proxy.url}/#/why/shop.example.com/checkout/pay`);
  await page.waitForSelector('.lane.barred');
  const ran = spawnSync(binary, ['explain', '--admin', proxy.url, '--host', 'shop.example.com', '--path', '/checkout/pay'], { encoding: 'utf8' });
  const rejected = [...ran.stdout.matchAll(/^rejected\s+(\S+): (\S+)$/gm)].map(([, name, reason]) => [name, reason]);
  assert.deepEqual(rejected, [['shop-near', 'data_class'], ['shop-far', 'data_class']]);
  assert.deepEqual(await page.$$eval('.lane.barred .nm', all => all.map(a => a.textContent)), rejected.map(([name]) => name));
  assert.match(await page.textContent('.lane.barred'), /does not accept sensitive data/);
  await page.ends();
});

test('a flow to a site with many clusters answers why, too', { timeout: 30000 }, async () => {
  const page = await open();
  await page.evaluate(() => window.tidegate.stop());
  const made = generated(20, 50, 0);
  // Service 7 sends most to this site, at two clusters; service 9 sends most to one of its clusters.
  made.services[7].order.push('s03-c08');
  Object.assign(made.services[7].to, { 's03-c07': 30, 's03-c08': 30 });
  Object.assign(made.services[9].to, { 's03-c09': 40 });
  await page.evaluate(s => {
    window.tidegate.generation = s.status.config.generation;   // else it asks for the configuration
    window.tidegate.snapshot(s);
    window.tidegate.config = { ...window.tidegate.config, routes: [7, 9].map(n => ({ hosts: [`seven-or-nine-${n}.example`], service: `service-${n}` })) };
    window.tidegate.wake();
  }, made);
  await page.waitForSelector('.flowlink[href^="#/why/seven-or-nine-7.example"]:has(title:text("Why site-03?"))');
  const hrefs = await page.$$eval('.flowlink', all => all.map(a => a.getAttribute('href')));
  assert.equal(hrefs.length, 20);
  for (const href of hrefs) assert.match(href, /^#\/why\//);
  await page.ends();
});

test('the map has sites at fixed angles, the radius by the distance and the width by the rate', { timeout: 30000 }, async () => {
  const page = await open();
  await page.evaluate(() => window.tidegate.stop());
  const cluster = (name, site, distance_ms) => ({ name, site, kind: site === 'here' ? 'idc' : 'cloud', environment: 'production', state: 'up', cause: '', why: 'nearest', dial_percent: 100, site_dial_percent: 100, distance_ms, rtt_ms: distance_ms, service_ms: 20, queue_ms: 0, tolerates_ms: 4, in_flight: 1, requests_per_s: 0, success_ratio: 1, share: 0, cost_usd_per_h: 0, endpoints: [] });
  const draw = async (far, to) => {
    const made = generated(1, 1, 0);
    made.status.site = 'here';
    made.clusters = [cluster('a', 'here', 0.5), cluster('b', 'near', 10), cluster('c', 'far', far), cluster('d', 'farther', 90)];
    Object.assign(made.services[0], { order: ['a', 'b', 'c', 'd'], to, requests_per_s: 300 });
    await page.evaluate(s => window.tidegate.snapshot(s), made);
    await page.evaluate(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))));
    return page.evaluate(() => {
      const [, cx, cy] = /translate\(([\d.]+) ([\d.]+)\)/.exec(document.querySelector('.gate').getAttribute('transform')).map(Number);
      const at = {}, width = {};
      for (const node of document.querySelectorAll('a.node')) {
        const name = node.querySelector('.name').textContent, spot = node.querySelector('.nodehalo');
        // Rings are twice as wide as high.
        const dx = Number(spot.getAttribute('cx')) - cx, dy = (Number(spot.getAttribute('cy')) - cy) / 0.5;
        at[name] = { angle: Math.atan2(dy, dx) * 180 / Math.PI, radius: Math.hypot(dx, dy) };
      }
      for (const flow of document.querySelectorAll('.flowlink')) {
        width[/Why (\w+)\?/.exec(flow.querySelector('title').textContent)[1]] = Number(flow.querySelector('.band')?.getAttribute('stroke-width') || 0);
      }
      return { at, width };
    });
  };
  const before = await draw(30, { a: 200, b: 100, c: 0, d: 0 }), later = await draw(60, { a: 100, b: 200, c: 0, d: 0 });
  for (const name of ['a', 'b', 'c', 'd']) assert.ok(Math.abs(before.at[name].angle - later.at[name].angle) < 0.5, `${name} turned: ${JSON.stringify([before.at, later.at])}`);
  assert.ok(before.at.b.radius < before.at.c.radius && before.at.c.radius < before.at.d.radius, JSON.stringify(before.at));
  // Logarithmic: from 10 to 30 ms as far as from 30 to 90 ms.
  const [first, second] = [before.at.c.radius - before.at.b.radius, before.at.d.radius - before.at.c.radius];
  assert.ok(Math.abs(first - second) < 2, `${first} and ${second}`);
  assert.ok(later.at.c.radius > before.at.c.radius + 5 && Math.abs(later.at.b.radius - before.at.b.radius) < 0.5, 'only what moved away is drawn farther away');
  assert.ok(Math.abs(before.width.a / before.width.b - 2) < 0.1 && Math.abs(later.width.a / later.width.b - 0.5) < 0.05, JSON.stringify([before.width, later.width]));
  assert.equal(before.width.c, 0);
  await page.ends();
});

test('the refused flow answers why, and the own part of a budget is shown', { timeout: 30000 }, async () => {
  const page = await open();
  await page.waitForFunction(() => window.tidegate.totals().demand > 60);
  await page.evaluate(() => window.tidegate.stop());
  const draw = change => page.evaluate(c => {
    const t = window.tidegate, s = { status: t.status, clusters: t.clusters, services: structuredClone(t.services) };
    for (const [name, values] of Object.entries(c)) Object.assign(s.services.find(x => x.name === name), values);
    t.snapshot(s);
    return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  }, change);
  await draw({ checkout: { refused_per_s: 40 }, shop: { refused_per_s: 3 } });
  assert.equal(await page.getAttribute('.flowlink:has(.st-lost)', 'href'), '#/why/shop.example.com/checkout');
  // The proxies of the site share 8 dollars an hour: this one has 2 of them now. Nothing at all is a budget, too.
  for (const [part, said] of [[2, /\$2\.00\/h/], [0, /\$0\.00\/h/]]) {
    await draw({ shop: { budget_usd_per_h: part, cost_usd_per_h: part ? 0.5 : 0 } });
    await page.goto(`${proxy.url}/#/services/shop`);
    await page.waitForSelector('section:has(h2:text-is("Budget"))');
    const panel = await page.textContent('section:has(h2:text-is("Budget"))');
    assert.match(panel, said);
    assert.doesNotMatch(panel, /No budget|NaN/);
  }
  await page.ends();
});

test('a view without a name takes the address of its subject and stays there', { timeout: 30000 }, async () => {
  const page = await open('#/services');
  await page.waitForSelector('main.v-services .pagehead h1');
  const hash = () => new URL(page.url()).hash, first = hash();
  assert.match(first, /^#\/services\/(shop|checkout|render)$/);
  // Another service becomes the worst: the page stays with its subject, and "back" leaves it.
  await page.evaluate(name => { const t = window.tidegate; t.stop();
    t.snapshot({ status: t.status, clusters: t.clusters, services: t.services.map(s => ({ ...s, refused_per_s: s.name === name ? 0 : 500 })) }); }, first.split('/').pop());
  await page.waitForTimeout(300);
  assert.equal(hash(), first);
  await page.goto(`${proxy.url}/#/sites/idc-east`);
  await page.waitForSelector('th[aria-sort=ascending] button:text-is("Cluster")');
  await page.click('th button:text-is("Cluster")');
  await page.waitForSelector('th[aria-sort=descending] button:text-is("Cluster")');
  await page.ends();
});

test('a site keeps its side and its order on the map when another appears or goes', { timeout: 30000 }, async () => {
  const page = await open();
  await page.evaluate(() => window.tidegate.stop());
  const draw = async sites => {
    const made = generated(5, 1, 0), known = new Set(['site-00', ...sites]);
    made.clusters = made.clusters.filter(c => known.has(c.site)).map(c => ({ ...c, state: 'up', distance_ms: c.site === 'site-00' ? 0.5 : 20 }));
    const names = new Set(made.clusters.map(c => c.name));
    made.services = made.services.map(s => ({ ...s, order: s.order.filter(n => names.has(n)), to: {} }));
    await page.evaluate(s => { window.tidegate.snapshot(s); return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))); }, made);
    return page.$$eval('a.node', all => Object.fromEntries(all.map(n => [n.querySelector('.name').textContent, [Number(n.querySelector('.nodehalo').getAttribute('cx')), Number(n.querySelector('.nodehalo').getAttribute('cy'))]])));
  };
  const three = await draw(['site-02', 'site-03', 'site-04']), four = await draw(['site-01', 'site-02', 'site-03', 'site-04']), two = await draw(['site-03', 'site-04']);
  const side = (at, name) => Math.sign(at[name][0] - at['s00-c00'][0]);
  for (const name of ['s03-c00', 's04-c00']) assert.deepEqual([side(four, name), side(two, name)], [side(three, name), side(three, name)], name);
  // As many places as before: nobody moves at all.
  for (const name of ['s03-c00', 's04-c00']) assert.ok(Math.hypot(two[name][0] - four[name][0], two[name][1] - four[name][1]) < 1, `${name} moved`);
  await page.ends();
});

test('the area of a small curve ends at a gap, and begins anew after it', { timeout: 30000 }, async () => {
  const page = await open();
  const area = await page.evaluate(async () => (await import(`${location.origin}/dashboard/js/ui.js`)).spark([2, 2, null, 2, 2], 'home').props.children[0].props.d);
  assert.match(area, /^M0\.0 20L0\.0 [\d.]+L21\.0 [\d.]+L21\.0 20ZM63\.0 20L63\.0 [\d.]+L84\.0 [\d.]+L84\.0 20Z$/);
  await page.ends();
});

test('every kind of event that changes traffic is marked on every chart', { timeout: 60000 }, async () => {
  const page = await open();
  await page.waitForFunction(() => window.tidegate.totals().demand > 60);
  const events = [{ kind: 'spill', service: 'shop', spilling: true }, { kind: 'cluster', cluster: 'shop-idc', state: 'down' }, { kind: 'cluster', cluster: 'shop-idc', state: 'up' },
    { kind: 'reload', ok: true, generation: 2 }, { kind: 'certificates', ok: true }, { kind: 'dial', name: 'shop-idc', percent: 50 }, { kind: 'drill', name: 'cloud-near', phase: 'ended', outcome: 'passed' },
    { kind: 'shift', name: 'shop', phase: 'moving' }, { kind: 'budget', service: 'shop', empty: true }, { kind: 'spill', service: 'shop', spilling: false }];
  for (const view of ['map', 'services/shop', 'clusters/shop-idc', 'cost?range=1h']) {
    await page.goto(`${proxy.url}/#/${view}`);
    await shown(page, view);
    await page.waitForSelector('svg.plot');
    for (const [i, event] of events.entries()) {
      const marks = await page.evaluate(([event, ago]) => {
        const t = window.tidegate, kept = t.events;
        // This event alone, in the middle of the chart.
        t.events = []; t.event({ ...event, time: new Date((t.end - ago) * 1000).toISOString() });
        return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => {
          const plots = [...document.querySelectorAll('svg.plot')];
          done({ plots: plots.length, marked: plots.filter(p => p.querySelectorAll('.stem').length === 1).length });
          t.events = kept;
        })));
      }, [event, 60 + i]);
      assert.ok(marks.plots > 0 && marks.marked === marks.plots, `${event.kind} on ${view}: ${JSON.stringify(marks)}`);
    }
  }
  await page.ends();
});

test('a dial shows what is expected at each position, is confirmed and audited', { timeout: 60000 }, async () => {
  const readonly = await open('#/clusters/shop-idc');
  assert.equal(await readonly.locator('.acts button').count(), 0);
  await readonly.ends();
  const page = await open('#/clusters/shop-idc', { token: true });
  await page.waitForFunction(() => window.tidegate.totals().demand > 60);
  await page.click('.acts button:has-text("Dial")');
  await page.waitForSelector('dialog .expects :is(.expect, .note:not(.wait))', { timeout: 20000 });
  const asked = page.waitForResponse(r => r.url().includes('/api/v1/expect') && r.url().includes('percent=50'), { timeout: 20000 });
  await page.locator('dialog input[type=range]').fill('50');
  await asked;
  await page.waitForSelector('dialog .expect:has-text("shop-near gets of shop")', { timeout: 20000 });
  await page.screenshot({ path: path.join(screens, 'dial-dialog.png') });
  assert.equal((await proxy.json('/api/v1/clusters/shop-idc')).dial_percent, 100, 'nothing before it is confirmed');
  // To 0 is a drain: it takes the name.
  await page.locator('dialog input[type=range]').fill('0');
  assert.ok(await page.locator('dialog button.danger').isDisabled());
  await page.locator('dialog input[type=range]').fill('50');
  await page.click('dialog button.primary:has-text("Dial to 50")');
  await page.waitForSelector('dialog', { state: 'detached' });
  await until('it is in force', async () => (await proxy.json('/api/v1/clusters/shop-idc')).dial_percent === 50, 5);
  const audit = (await proxy.json('/api/v1/audit'))[0];
  assert.deepEqual([audit.action, audit.name, audit.percent, audit.by], ['dial', 'shop-idc', 50, 'Ada']);
  await page.waitForSelector('.rules:has-text("50\u202f%, by hand")');
  await page.click('.acts button:has-text("dial back"), .acts button:has-text("Undrain")');
  await page.click('dialog button.primary');
  await until('it is taken back', async () => (await proxy.json('/api/v1/clusters/shop-idc')).dial_percent === 100, 5);
  await page.ends();
});

test('a reload is confirmed, audited, and says why it failed', { timeout: 40000 }, async () => {
  const readonly = await open('#/config');
  assert.equal(await readonly.locator('.verdict button').count(), 0);
  await readonly.ends();
  const page = await open('#/config', { token: true, quiet: ['400', '409', '422'] });
  const generation = async () => (await proxy.json('/api/v1/status')).config.generation, first = await generation();
  await page.click('.verdict button:has-text("Reload")');
  await page.waitForSelector('dialog h2:has-text("Reload the configuration?")');
  await page.waitForSelector('dialog .expects:has-text("The file has no key that differs")');
  await page.click('dialog button:has-text("Keep it")');
  assert.equal(await generation(), first, 'nothing before it is confirmed');
  await page.click('.verdict button:has-text("Reload")');
  await page.click('dialog button.primary');
  await page.waitForSelector('dialog', { state: 'detached' });
  await until('it is loaded', async () => await generation() > first, 5);
  const audit = (await proxy.json('/api/v1/audit'))[0];
  assert.deepEqual([audit.action, audit.ok, audit.by], ['reload', true, 'Ada']);
  // A file with a problem: the dialog says it, and what is in force stays.
  const second = await generation();
  proxy.write(w.config.replace('data: general, budget', 'data: general, budgt'));
  await page.waitForSelector('.banner:has-text("not in force")', { timeout: 8000 });
  await page.click('.verdict button:has-text("Reload")');
  await page.waitForSelector('dialog .expects .warn:has-text("The file was refused: unknown key")');
  await page.screenshot({ path: path.join(screens, 'reload-dialog.png') });
  await page.click('dialog button.primary');
  await page.waitForSelector('dialog .warn:has-text("unknown key")');
  assert.equal(await generation(), second);
  await page.keyboard.press('Escape');
  await page.waitForSelector('dialog', { state: 'detached' });
  proxy.write(w.config);
  await page.waitForSelector('.banner', { state: 'detached', timeout: 8000 });
  await page.ends();
});

test('the keyboard reaches everything, in the order of the page, and a dialog gives the focus back', { timeout: 120000 }, async () => {
  for (const view of VIEWS) {
    const page = await open('#/' + view, { token: true });
    await shown(page, view);
    // What can be operated, in the order of the document; a still page, so that nothing is drawn meanwhile.
    await page.evaluate(() => window.tidegate.stop());
    const operable = `(() => [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')]
      .filter(el => el.tabIndex >= 0 && !el.disabled && el.type !== 'hidden' && el.checkVisibility({ visibilityProperty: true })))()`;
    // Answers that were asked for before may still add tables.
    const count = () => page.evaluate(`${operable}.length`);
    for (let last = -1, same = 0; same < 3;) { const now = await count(); same = now === last ? same + 1 : 0; last = now; await page.waitForTimeout(150); }
    const expected = await page.evaluate(`${operable}.map((el, i) => { el.dataset.order = i; }).length`);
    assert.ok(expected > 10, `${view}: ${expected}`);
    const reached = [];
    for (let i = 0; i < expected; i++) {
      await page.keyboard.press('Tab');
      reached.push(await page.evaluate(() => {
        const el = document.activeElement, mark = el.closest('svg') && !el.matches('svg') ? el.querySelector('.band') || el.querySelector('.nodehalo, .grip, .name') : el;
        const style = getComputedStyle(el), seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 1;
        // Marks and flows of the map show the focus by the colour of their line.
        const focus = getComputedStyle(document.documentElement).getPropertyValue('--focus').trim(), probe = document.createElement('i');
        probe.style.color = focus; document.body.append(probe); const colour = getComputedStyle(probe).color; probe.remove();
        return { order: el.dataset.order === undefined ? null : Number(el.dataset.order), seen: seen || getComputedStyle(mark).stroke === colour, what: el.outerHTML.slice(0, 120) };
      }));
    }
    assert.deepEqual(reached.map(r => r.order), Array.from({ length: expected }, (_, i) => i), `${view}: ${JSON.stringify(reached.find((r, i) => r.order !== i))}`);
    const unseen = reached.filter(r => !r.seen);
    assert.deepEqual(unseen.map(r => r.what), [], `${view}: the focus is not seen`);
    await page.ends();
  }
  // A dialog keeps the focus inside, and gives it back to the button that opened it.
  const page = await open('#/clusters/shop-near', { token: true });
  const opener = page.locator('.acts button:has-text("Dial")');
  await opener.focus();
  await page.keyboard.press('Enter');
  await page.waitForSelector('dialog[open]');
  for (let i = 0; i < 12; i++) {
    await page.keyboard.press('Tab');
    assert.ok(await page.evaluate(() => document.activeElement === document.body || !!document.activeElement.closest('dialog')), 'the focus stays in the dialog');
  }
  await page.keyboard.press('Escape');
  await page.waitForSelector('dialog', { state: 'detached' });
  assert.ok(await opener.evaluate(el => el === document.activeElement), 'the focus is where it was');
  await page.ends();
});

test('in no view anything is asked while the tab is hidden', { timeout: 90000 }, async () => {
  await Promise.all(VIEWS.map(async view => {
    const page = await open('#/' + view);
    await shown(page, view);
    const hide = hidden => page.evaluate(h => { Object.defineProperty(document, 'hidden', { configurable: true, get: () => h }); document.dispatchEvent(new Event('visibilitychange')); }, hidden);
    await hide(true);
    // What was asked before may still be answered, and draw the page.
    await page.waitForTimeout(300);
    const asked = [], drawn = await page.evaluate(() => {
      let count = 0; new MutationObserver(() => { count += 1; }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
      window.drawn = () => count;
      return window.tidegate.version;
    });
    page.on('request', r => asked.push(r.url()));
    // The timers of the views end after 3 s at most; figures are asked again after 10 s only when a page is drawn.
    await page.waitForTimeout(3500);
    assert.deepEqual(asked, [], view);
    assert.deepEqual([await page.evaluate(() => window.tidegate.version), await page.evaluate(() => window.drawn())], [drawn, 0], `${view} is not drawn`);
    await hide(false);
    await page.waitForFunction(v => window.tidegate.version > v, drawn);
    await page.ends();
  }));
});

test('what was refused is counted and shown, and so is the connection to NATS', { timeout: 30000 }, async () => {
  const page = await open('#/sites/idc-east');
  const before = (await proxy.json('/api/v1/status')).admin_refused.token;
  for (let i = 0; i < 3; i++) assert.equal((await fetch(`${proxy.url}/api/v1/reload`, { method: 'POST', headers: { authorization: 'Bearer wrong' } })).status, 401);
  await page.waitForFunction(n => [...document.querySelectorAll('.refusals dt')].some(dt => dt.textContent === 'token missing, wrong or not configured' && Number(dt.nextSibling.textContent) === n), before + 3);
  // Reports of peers that lie, and a NATS server that is gone.
  const told = { ...fleet(), refused: { stale: 12, too_many: 1, name: 0 }, nats: { servers: ['nats.example:4222'], connected: false, error: 'connection refused', dropped: 48 } };
  await page.evaluate(f => { const t = window.tidegate; t.alone = true; t.fleet = f; t.fleetHeard = performance.now(); t.wake(); }, told);
  await page.waitForSelector('.refusals:has-text("report: stale")');
  assert.match(await page.textContent('.refusals'), /report: stale12.*report: too many1/s);
  assert.doesNotMatch(await page.textContent('.refusals'), /report: name/);
  const nats = page.locator('section:has(h2:text-is("NATS"))');
  assert.match(await nats.textContent(), /nats\.example:4222.*connection refused.*48 reports/s);
  assert.equal(await nats.locator('.tx-lost').count(), 1);
  await page.screenshot({ path: path.join(screens, 'site-refused.png'), fullPage: true });
  await page.ends();
});

test('loading, empty, partly silent and cut off, the page fits its width, wide and narrow, light and dark', { timeout: 120000 }, async () => {
  const toy = await new Toy().start(), at = `127.0.0.1:${toy.port}`;
  const other = await new Proxy(`site: { name: idc-east }\nclusters: { shop-idc: { site: idc-east, endpoints: ["${at}"] }, shop-near: { site: cloud-near, endpoints: ["${at}"] }, shop-far: { site: cloud-far, endpoints: ["${at}"] } }\nsites: { idc-east: { kind: idc }, cloud-near: { kind: cloud }, cloud-far: { kind: cloud } }\nservices: { shop: { clusters: [shop-idc, shop-near, shop-far] } }\nroutes: [{ hosts: [shop.example.com], service: shop }]\n`).start();
  const sizes = process.env.DASHBOARD_LONG ? [[1280, 'light'], [1280, 'dark'], [360, 'light'], [360, 'dark']] : [[1280, 'dark'], [360, 'light']];
  try {
    for (const [width, theme] of sizes) {
      const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme: theme, reducedMotion: 'reduce' });
      await watch(page, other, ['ERR_']);
      if (process.env.DASHBOARD_ASSETS) await fromSource(page);
      const fits = async state => {
        const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(over <= 0, `${state} at ${width}: ${over} px too wide`);
        await page.screenshot({ path: path.join(screens, `state-${state}-${width}-${theme}.png`), fullPage: true });
      };
      let go, told = null; const held = new Promise(done => { go = done; });
      await page.route('**/api/v1/events', async route => { await held; await route.continue(); });
      await page.route('**/api/v1/fleet', route => told ? route.fulfill({ json: told }) : route.continue());
      await page.goto(other.url + '/');
      await page.waitForSelector('.verdict h1:has-text("Asking the proxy")');
      await fits('loading');
      go();
      for (const view of ['map', 'services/shop', 'clusters/shop-far', 'sites/cloud-far', 'cost', 'decisions']) {
        await page.goto(`${other.url}/#/${view}`);
        await shown(page, view);
        await fits(`empty-${view.split('/')[0]}`);
      }
      told = fleet();
      for (const view of ['map', 'sites/cloud-far', 'clusters/shop-far', 'cost']) {
        await page.goto(`${other.url}/#/${view}`);
        await shown(page, view);
        await page.waitForSelector('.banner:has-text("2 of 3 sites heard")');
        await fits(`partly-${view.split('/')[0]}`);
      }
      await page.goto(`${other.url}/#/map`);
      await other.stop();
      await page.waitForSelector('main.cold .verdict h1:has-text("cut off")', { timeout: 12000 });
      await fits('cut-off');
      await other.start();
      await page.waitForSelector('main:not(.cold) .verdict', { timeout: 12000 });
      await page.ends();
    }
  } finally { await other.end(); await toy.kill(); }
});
