// The dashboard in a real browser, before a real proxy. `make dashboard-test` takes a picture of every view;
// the short form (DASHBOARD_LONG not set) takes a few.

import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { fromSource, launch, number, openPage, row, screens, siterow, watch } from './browser.mjs';
import { Load, Proxy, TOKEN, Toy, until, world } from './rig.mjs';
import { generated, fleet } from './generated.mjs';

const here = path.dirname(fileURLToPath(import.meta.url)), long = !!process.env.DASHBOARD_LONG;
let browser, w, proxy, load;

before(async () => {
  browser = await launch();
  w = await world(); proxy = await new Proxy(w.config).start(); load = new Load(proxy.web);
  usual();
}, { timeout: 60000 });
after(async () => { load?.stop(); await browser?.close(); await proxy?.end(); await w?.end(); });
function usual() { load.set('shop.example.com/cart', 80); load.set('shop.example.com/checkout/pay', 15); load.set('render.example.com/v1/frames', 8); }

const open = (hash, options) => openPage(browser, hash, { at: proxy, ...options });

test('numbers move under load', { timeout: 30000 }, async () => {
  const page = await open();
  await page.waitForFunction(() => window.tidegate.totals().demand > 60);
  const before = await number(page, `${row('shop-idc')} td.big`);
  assert.ok(before > 50, `${before}/s`);
  load.set('shop.example.com/cart', 180);
  await until('the rate in the table has risen', async () => await number(page, `${row('shop-idc')} td.big`) > 1.3 * before, 12);
  assert.match(await page.textContent('.tidekeys'), /at home/);
  assert.match(await page.textContent('.facts'), /1 of 1 proxy/, 'one process is not passed off as the site');
  usual();
  await page.ends();
});

test('a killed cluster turns red within two seconds, what may not leave is refused, and it comes back', { timeout: 60000 }, async () => {
  const page = await open();
  await page.waitForFunction(() => window.tidegate.totals().demand > 60);
  await w.toys.shop.kill();
  const since = performance.now();
  await page.waitForSelector('.node.s-down .name:text-is("shop-idc")', { timeout: 10000 });
  const took = performance.now() - since;
  assert.ok(took < 2000, `red after ${Math.round(took)} ms`);
  await page.waitForSelector('.verdict.t-lost h1:has-text("refused")', { timeout: 10000 });
  assert.match(await page.textContent('.verdict'), /shop-idc is down/);
  await until('shop is served elsewhere', async () => await number(page, `${row('shop-near')} td.big`) > 20, 8);
  await page.screenshot({ path: path.join(screens, 'map-failover.png') });
  await page.click('.verdict a.btn');
  await page.waitForSelector('.lane');
  await page.goto(proxy.url + '/#/why/shop.example.com/checkout/pay');
  await page.waitForSelector('.verdict.t-lost h1:has-text("Refused")');
  assert.match(await page.textContent('.lane.dead'), /down: /);
  assert.match(await page.textContent('.lane.barred'), /does not accept sensitive data/);
  await page.screenshot({ path: path.join(screens, 'why-refused.png') });
  await w.toys.shop.start();
  await page.goto(proxy.url + '/#/map');
  await until('it is up again', async () => await page.locator('.node.s-up .name:text-is("shop-idc")').count() + await page.locator('.node.s-full .name:text-is("shop-idc")').count() > 0, 20);
  assert.ok(await page.locator('.timeline .stem.t-lost').count() > 0, 'the outage is an event on the time line');
  await page.goto(proxy.url + '/#/services/checkout');
  await until('and on every other chart', async () => await page.locator('svg.plot').count() === await page.locator('svg.plot:has(.stem.t-lost)').count(), 5);
  await page.ends();
});

test('without a token nothing can be changed, and a wrong one is refused', { timeout: 30000 }, async () => {
  const page = await open('#/clusters/shop-near', { quiet: ['401'] });
  assert.equal(await page.locator('.acts button').count(), 0, 'write buttons are absent');
  await page.click('button.ro');
  await page.fill('input[name=token]', 'wrong');
  await page.click('dialog button[type=submit]');
  await page.waitForSelector('dialog .warn:has-text("does not know this token")');
  assert.equal(await page.locator('.acts button:text("Drain")').count(), 0);
  await page.fill('input[name=token]', TOKEN);
  await page.fill('input[name=name]', 'Ada');
  await page.click('dialog button[type=submit]');
  await page.waitForSelector('.acts button:has-text("Drain")');
  assert.equal(await page.locator('dialog').count(), 0);
  await page.ends();
});

test('a drain is expected, confirmed by its name, moves the flow and leaves an audit event', { timeout: 60000 }, async () => {
  await until('home serves again', async () => (await proxy.json('/api/v1/services'))[0].to['render-idc'] !== undefined || (await proxy.json('/api/v1/services')).some(s => (s.to['render-idc'] || 0) > 4), 20);
  const page = await open('#/clusters/render-idc', { token: true });
  await page.click('.acts button:has-text("Drain")');
  await page.waitForSelector('dialog .expect', { timeout: 20000 });
  assert.match(await page.textContent('dialog .expect'), /render-near gets of render/);
  await page.screenshot({ path: path.join(screens, 'drain-dialog.png') });
  const go = page.locator('dialog button.danger');
  assert.ok(await go.isDisabled(), 'only its name confirms it');
  await page.fill('dialog .type input', 'render-idc');
  await go.click();
  await page.waitForSelector('dialog', { state: 'detached' });
  await page.goto(proxy.url + '/#/map');
  await page.waitForSelector('.node.s-draining .name:text-is("render-idc")', { timeout: 5000 });
  await until('the flow has moved', async () => await number(page, `${row('render-near')} td.big`) > 3 && await number(page, `${row('render-idc')} td.big`) === 0, 10);
  const audit = await proxy.json('/api/v1/audit');
  assert.deepEqual([audit[0].name, audit[0].percent, audit[0].by], ['render-idc', 0, 'Ada']);
  await page.goto(proxy.url + '/#/config');
  await page.waitForSelector('.acted b:has-text("render-idc drained")');
  await page.goto(proxy.url + '/#/clusters/render-idc');
  await page.click('.acts button:has-text("Undrain")');
  await page.waitForSelector('dialog .expect, dialog .note', { timeout: 20000 });
  await page.click('dialog button.primary');
  await until('it is up', async () => (await proxy.json('/api/v1/clusters/render-idc')).state === 'up', 5);
  await page.ends();
});

test('a file that is refused has a banner on every view, and its problem under its line', { timeout: 30000 }, async () => {
  const page = await open();
  proxy.write(w.config.replace('data: general, budget', 'data: general, budgt'));
  await page.waitForSelector('.banner:has-text("not in force")', { timeout: 8000 });
  await page.click('.banner a');
  await page.waitForSelector('.dl.prob:has-text("unknown key")');
  assert.match(await page.textContent('.diff'), /services\.shop\.budgt/);
  assert.match(await page.textContent('.verdict h1'), /A problem keeps/);
  await page.screenshot({ path: path.join(screens, 'config-refused.png') });
  proxy.write(w.config);
  await page.waitForSelector('.banner', { state: 'detached', timeout: 8000 });
  await page.waitForSelector('.verdict.t-home');
  await page.ends();
});

test('why answers for any host and path that is typed in, and every view is an address', { timeout: 30000 }, async () => {
  const page = await open('#/why');
  await page.fill('input[name=host]', 'shop.example.com');
  await page.fill('input[name=path]', '/account/a b');
  await page.click('.whyform button');
  await page.waitForSelector('.lane');
  assert.equal(new URL(page.url()).hash, '#/why/shop.example.com/account/a%20b');
  // A typed name stays while answers come, once a second.
  await page.fill('input[name=host]', 'nobody.example');
  const asked = page.waitForResponse(r => r.url().includes('/api/v1/explain'));
  await (await asked).finished();
  await page.evaluate(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))));
  assert.equal(await page.inputValue('input[name=host]'), 'nobody.example');
  await page.press('input[name=path]', 'Enter');
  await page.waitForSelector('.verdict h1:has-text("no route")');
  page.wrong = page.wrong.filter(x => !x.includes('404'));   // the API answers 404 for a request without a route
  await page.keyboard.press('Escape');
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press('2');
  await page.waitForSelector('main.v-services');
  // The cursor is one for all charts, and the keyboard moves it.
  await page.focus('svg.plot >> nth=0');
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('ArrowLeft');
  const cursors = await page.locator('.cursor').count();
  assert.equal(cursors, await page.locator('svg.plot').count());
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('.cursor').count(), 0);
  await page.reload();
  await page.waitForSelector('main.v-services');
  await page.goto(proxy.url + '/#/map?sort=-rps');
  await page.waitForSelector('th[aria-sort=descending] button:text-is("From here")');
  await page.ends();
});

test('why answers for a request that is over, by its id, and says what is kept of an unknown one', { timeout: 30000 }, async () => {
  const page = await open('#/why', { quiet: ['404'] });   // the API answers 404 for an id of which nothing is kept
  // Bring-your-own ids are believed of trusted clients alone: this one is in the list of decisions.
  await w.toys.renderNear.kill();
  await until('there is a refusal or a fail-over', async () => (await proxy.json('/api/v1/decisions')).length > 0, 10);
  await w.toys.renderNear.start();
  const decision = (await proxy.json('/api/v1/decisions')).find(d => d.request_id);
  await page.fill('input[name=id]', decision.request_id);
  await page.click('.byid button');
  await page.waitForSelector('.pastfacts');
  assert.match(await page.textContent('.pastfacts'), new RegExp(`${decision.method} ${decision.host}${decision.path}.*${decision.request_id}`));
  assert.ok(await page.locator('.lane').count() >= 2, 'the clusters of that time');
  await page.fill('input[name=id]', '<b>unknown</b>');
  await page.press('input[name=id]', 'Enter');
  await page.waitForSelector('.verdict h1:has-text("Nothing is kept of this request")');
  assert.match(await page.textContent('.verdict'), /100 exchanges a second/);
  await page.ends();
});

test('a site is drained as a whole: expected, confirmed, audited, and taken back', { timeout: 60000 }, async () => {
  const page = await open('#/map', { token: true });
  await until('home serves', async () => ((await proxy.json('/api/v1/services')).find(s => s.name === 'render').to['render-idc'] || 0) > 3, 20);
  await page.click(`${siterow('idc-east')} a`);
  await page.waitForSelector('main.v-sites .acts');
  await page.click('.acts button:has-text("Drain site")');
  await page.waitForSelector('dialog .expect', { timeout: 20000 });
  assert.match(await page.textContent('dialog'), /All 2 clusters of this site: /);
  assert.match(await page.textContent('dialog .expect'), /render-near gets of render/);
  await page.waitForSelector('dialog .warn:has-text("checkout")');   // no cloud may serve its data
  await page.screenshot({ path: path.join(screens, 'drain-site-dialog.png') });
  await page.fill('dialog .type input', 'idc-east');
  await page.click('dialog button.danger');
  await page.waitForSelector('dialog', { state: 'detached' });
  await until('all its clusters drain', async () => (await proxy.json('/api/v1/clusters')).filter(c => c.site === 'idc-east').every(c => c.state === 'draining'), 5);
  assert.equal((await proxy.json('/api/v1/clusters/shop-near')).dial_percent, 100, 'no other site');
  const audit = await proxy.json('/api/v1/audit');
  assert.deepEqual([audit[0].kind, audit[0].name, audit[0].percent, audit[0].by], ['sites', 'idc-east', 0, 'Ada'], 'one action');
  // A cluster's own dial does not lift the site's.
  await page.goto(proxy.url + '/#/clusters/render-idc');
  await page.waitForSelector('.acts a:has-text("Dialled with idc-east")');
  await page.click('.acts a');
  await page.click('.acts button:has-text("Undrain site")');
  await page.waitForSelector('dialog .expect, dialog .note', { timeout: 20000 });
  await page.click('dialog button.primary');
  await until('they are up', async () => (await proxy.json('/api/v1/clusters')).filter(c => c.site === 'idc-east').every(c => c.state === 'up'), 5);
  await page.ends();
});

test('a drill is expected, confirmed, followed and aborted, and a shift moves a service', { timeout: 90000 }, async () => {
  const readonly = await open('#/sites/idc-east');
  assert.equal(await readonly.locator('.acts button').count(), 0, 'no action without a token');
  await readonly.ends();
  const page = await open('#/sites/cloud-near', { token: true });
  // Half of the traffic is there already, so that there is something to drill.
  await proxy.tell('PUT', '/api/v1/clusters/shop-idc/dial', '{"percent": 50}');
  await until('it serves', async () => (await proxy.json('/api/v1/services'))[0].to['shop-near'] > 10, 15);
  await page.click('.acts button:has-text("Drill")');
  await page.waitForSelector('dialog .expect', { timeout: 20000 });
  assert.match(await page.textContent('dialog .expect'), /shop-far gets of shop/);
  const go = page.locator('dialog button.danger');
  assert.ok(await go.isDisabled(), 'the name confirms it');
  await page.selectOption('dialog select', '60');
  await page.fill('dialog .type input', 'cloud-near');
  await page.screenshot({ path: path.join(screens, 'drill-dialog.png') });
  await go.click();
  await page.waitForSelector('dialog progress');
  await page.waitForSelector('dialog .state:has-text("100")', { timeout: 15000 });
  assert.equal((await proxy.json('/api/v1/clusters/shop-near')).site_dial_percent, 0);
  await page.click('dialog button:has-text("Close")');
  await page.waitForSelector('.banner.operation:has-text("Drill of cloud-near")');
  await page.screenshot({ path: path.join(screens, 'drill-banner.png') });
  await page.click('.banner.operation button:has-text("Follow")');
  await page.click('dialog button:has-text("Abort")');
  await until('it returns at once', async () => (await proxy.json('/api/v1/clusters/shop-near')).site_dial_percent === 100, 5);
  await page.waitForSelector('dialog .state:has-text("aborted")', { timeout: 15000 });
  await page.click('dialog button:has-text("Report")');
  await page.waitForSelector('dialog pre:has-text("# Drill of cloud-near")');
  await page.screenshot({ path: path.join(screens, 'drill-report.png') });
  await page.click('dialog button:has-text("Close")');
  assert.equal((await proxy.json('/api/v1/audit'))[0].action, 'drill');
  await proxy.tell('DELETE', '/api/v1/clusters/shop-idc/dial');
  // A shift that an operator has made is shown, and taken back.
  await page.goto(proxy.url + '/#/services/shop');
  await page.click('.acts button:has-text("Shift")');
  await page.waitForSelector('dialog .expect', { timeout: 20000 });
  await page.selectOption('dialog select[aria-label=To]', 'shop-far');
  await page.waitForFunction(() => /shop-far gets of shop/.test(document.querySelector('dialog .expect')?.textContent), null, { timeout: 20000 });
  await page.screenshot({ path: path.join(screens, 'shift-dialog.png') });
  await page.click('dialog button.danger');
  await page.waitForSelector('dialog progress');
  await until('a part has moved', async () => ((await proxy.json('/api/v1/services'))[0].shift?.percent || 0) > 0, 45);
  await page.waitForSelector('.vsub:has-text("A shift by hand")');
  await page.click('dialog button:has-text("Abort")');
  await until('it is taken back', async () => (await proxy.json('/api/v1/services'))[0].shift === null, 5);
  await page.ends();
});

test('an endpoint shows its requests, and its last error with its age', { timeout: 30000 }, async () => {
  const page = await open('#/clusters/shop-far');
  await w.toys.shopFar.kill();
  const cell = page.locator('td.err');
  await page.waitForSelector('td.err:has-text("refused")');
  assert.match(await cell.textContent(), /connections refused, or host unreachable\s+\d+\s?s ago/);
  await w.toys.shopFar.start();
  await page.waitForSelector('.pagehead .mark.t-home', { timeout: 15000 });
  assert.match(await cell.textContent(), /\d+\s?s ago/, 'it is remembered when the endpoint is up again');
  await page.goto(proxy.url + '/#/clusters/shop-idc');
  const rate = page.locator('table.dense tbody tr:has(td.state) td.num').nth(3);
  await until('its endpoint has a rate', async () => parseFloat(await rate.textContent()) > 20, 15);
  assert.match(await page.textContent('.rules'), /learned/);
  await page.ends();
});

test('HTML in names, problems and answers is text', { timeout: 30000 }, async () => {
  const evil = '<img src=x onerror=alert(1)>', page = await open('#/map', { token: true });
  const isText = async (what, selector) => { await page.waitForFunction(([q, text]) => document.querySelector(q)?.textContent.includes(text), [selector, evil], { timeout: 8000 }).catch(() => { throw new Error(`not shown: ${what}`); }); assert.equal(await page.locator('#app img').count(), 0, what); };
  // The configuration takes no such name, so a snapshot stands in for a proxy that would.
  await page.evaluate(() => window.tidegate.stop());
  const made = JSON.parse(JSON.stringify(generated(2, 2, 0)).replaceAll('s01-c01', evil).replaceAll('site-01', evil + 'site').replaceAll('service-1', evil + 'service'));
  await page.evaluate(s => window.tidegate.snapshot(s), made);
  for (const hash of ['#/map', `#/services/${encodeURIComponent(evil + 'service')}`, `#/clusters/${encodeURIComponent(evil)}`]) {
    await page.evaluate(h => { location.hash = h; }, hash);
    await isText(hash, 'main');
  }
  await page.evaluate(() => window.tidegate.start());
  proxy.write(w.config + `"${evil}": 1\n`);
  await page.evaluate(() => { location.hash = '#/config'; });
  await isText('a problem of the file', '.problems');
  await isText('the difference of the file', '.diff');
  proxy.write(w.config);
  await fetch(`${proxy.url}/api/v1/clusters/shop-far/dial`, { method: 'DELETE', headers: { authorization: `Bearer ${TOKEN}`, 'tidegate-operator': evil } });
  await isText('the name of an operator', '.acted');
  await page.evaluate(h => { location.hash = h; }, '#/why/shop.example.com/' + encodeURIComponent(evil));
  await page.waitForSelector('.lane');
  assert.equal(await page.locator('#app img').count(), 0);
  page.wrong = page.wrong.filter(x => !x.includes('404'));
  await page.ends();
});

test('a page that is cut off is grey with its age, asks again, and returns', { timeout: 40000 }, async () => {
  const toy = await new Toy().start();
  const other = await new Proxy(`clusters: { one: { endpoints: ["127.0.0.1:${toy.port}"] } }\nservices: { shop: { clusters: [one] } }\nroutes: [{ service: shop }]\n`).start();
  const some = new Load(other.web); some.set('any.example/', 30);
  try {
    const page = await open('#/map', { at: other, quiet: ['ERR_'] });
    await page.waitForFunction(() => window.tidegate.totals().demand > 15);
    await other.stop();
    await page.waitForSelector('main.cold .verdict h1:has-text("cut off")', { timeout: 12000 });
    assert.match(await page.textContent('.verdict h1'), /\d+\s?s old/);
    assert.ok(await number(page, `${row('one')} td.big`) > 10, 'the last figure stays, and is not zero');
    assert.match(await page.textContent('.banner'), /Disconnected/);
    await page.screenshot({ path: path.join(screens, 'map-disconnected.png') });
    await other.start();
    await page.waitForSelector('main:not(.cold) .verdict', { timeout: 12000 });
    await page.ends();
  } finally { some.stop(); await other.end(); await toy.kill(); }
});

test('nothing runs while the tab is hidden', { timeout: 30000 }, async () => {
  const page = await open();
  const hide = hidden => page.evaluate(h => { Object.defineProperty(document, 'hidden', { configurable: true, get: () => h }); document.dispatchEvent(new Event('visibilitychange')); }, hidden);
  await hide(true);
  const version = await page.evaluate(() => window.tidegate.version);
  let asked = 0; page.on('request', () => { asked += 1; });
  await new Promise(done => setTimeout(done, 2500));
  assert.equal(await page.evaluate(() => window.tidegate.version), version);
  assert.equal(asked, 0);
  await hide(false);
  await page.waitForFunction(v => window.tidegate.version > v, version);
  await page.ends();
});

test('an address that asks for the token gets a page that asks for it', { timeout: 30000 }, async () => {
  const page = await browser.newPage();
  await watch(page, proxy, ['401']);
  await page.route('**/api/v1/**', route => route.fulfill({ status: 401, body: 'the bearer token is missing or wrong\n' }));
  await page.goto(proxy.url + '/');
  await page.waitForSelector('.verdict h1:has-text("asks for its token")');
  await page.screenshot({ path: path.join(screens, 'token.png') });
  await page.click('.verdict button');
  await page.waitForSelector('dialog input[name=token]');
  await page.ends();
});

test('before the first snapshot the page says that it asks, and before the first request how to call', { timeout: 30000 }, async () => {
  const toy = await new Toy().start(), other = new Proxy(`clusters: { idc: { kind: idc, endpoints: ["127.0.0.1:${toy.port}"] }, cloud: { kind: cloud, endpoints: ["127.0.0.1:${toy.port}"] } }\nservices: { shop: { clusters: [idc, cloud] } }\nroutes: [{ hosts: [shop.example.com], service: shop }]\n`);
  try {
    await other.start();
    const page = await browser.newPage({ viewport: { width: 1280, height: 1000 } });
    await watch(page, other);
    let go; const held = new Promise(done => { go = done; });
    await page.route('**/api/v1/events', async route => { await held; await route.continue(); });
    await page.goto(other.url + '/');
    await page.waitForSelector('.verdict h1:has-text("Asking the proxy")');
    await page.screenshot({ path: path.join(screens, 'map-loading.png') });
    go();
    await page.waitForSelector('.verdict h1:has-text("No request yet")');
    assert.match(await page.textContent('code.hint'), /^curl -H "host: shop\.example\.com" http:\/\/127\.0\.0\.1:\d+\/$/);
    assert.doesNotMatch(await page.textContent('table.dense tbody'), /NaN|null|undefined/);
    await page.screenshot({ path: path.join(screens, 'map-empty.png') });
    for (const view of ['services/shop', 'clusters/idc', 'cost', 'decisions', 'why']) {
      await page.goto(`${other.url}/#/${view}`);
      await page.waitForFunction(v => document.querySelector('main')?.classList.contains('v-' + v) && !document.querySelector('.skel'), view.split('/')[0]);
      assert.doesNotMatch(await page.textContent('main'), /NaN|null|undefined/, view);
    }
    await page.ends();
  } finally { await other.end(); await toy.kill(); }
});

test('peers have their sites, and one that is silent is grey with its age', { timeout: 60000 }, async () => {
  const page = await open('#/map', { token: true });
  let told = fleet();
  await page.route('**/api/v1/fleet', route => route.fulfill({ json: told }));
  await page.waitForFunction(() => window.tidegate.totals().demand > 60);
  await page.waitForSelector('.facts:has-text("3 of 3 proxies")');
  assert.match(await page.textContent('thead'), /All sites/);
  // A site is as large as it reports, and not as many as are asked.
  assert.match(await page.textContent(siterow('cloud-near')), /49 of 50 proxies, \d s old/);
  // What is this proxy's alone says so.
  assert.match(await page.textContent('.tidekeys'), /this proxy, 1 of 3/);
  assert.match(await page.textContent('.map'), /from clients of this proxy/);
  await page.waitForSelector('.siterow:has-text("cloud-far") .warn:has-text("last heard")');
  // The site is grey; its cluster is measured from here, and up.
  await page.waitForSelector('.isle.s-stale');
  await page.waitForSelector('.node.s-up .name:text-is("shop-far")');
  assert.match(await page.textContent(`${row('shop-far')} td.tx-none`), /386\s+\d+\s?s old/);
  assert.match(await page.textContent(`${siterow('cloud-far')} td.sum.tx-none`), /386\s+\d+\s?s old/, 'its sum, too');
  assert.match(await page.textContent('.banner'), /2 of 3 sites heard/);
  // The own site's sum has this proxy in it already.
  assert.equal(await page.evaluate(() => window.tidegate.everywhere('shop-idc')), 900);
  await page.screenshot({ path: path.join(screens, 'map-partition.png') });
  for (const [view, said] of [['clusters/shop-far', /this proxy; 386\/s from all sites, a part \d+\s?s old/], ['services/shop', /Figures of this proxy, 1 of 3 at idc-east/], ['cost', /Figures of this proxy, 1 of 3 at idc-east/], ['decisions', /Figures of this proxy/]]) {
    await page.goto(`${proxy.url}/#/${view}`);
    await page.waitForFunction(text => new RegExp(text).test(document.querySelector('#app').textContent), said.source, { timeout: 5000 }).catch(() => { throw new Error(`${view} does not say ${said}`); });
  }
  // An action is one of this proxy.
  await page.goto(`${proxy.url}/#/clusters/shop-far`);
  await page.click('.acts button:has-text("Dial")');
  await page.waitForSelector('dialog .one:has-text("At this proxy alone (idc-east-1): the 2 other proxies of idc-east keep what is in force there")');
  await page.keyboard.press('Escape');
  // One proxy of the own site that is silent makes the sum over the others neither old nor grey.
  const partly = fleet();
  Object.assign(partly.sites[0], { live: false, members: 2, age_s: 40 });
  Object.assign(partly.members[2], { state: 'silent', age_s: 40 });
  told = partly;
  await page.goto(`${proxy.url}/#/sites/idc-east`);
  await page.waitForSelector('.pagehead:has-text("2 of 3 proxies")');
  assert.equal(await page.locator('table.old').count(), 0);
  await page.ends();
});

test('twenty sites of fifty clusters take less than 50 ms a frame', { timeout: 60000 }, async () => {
  const page = await open();
  await page.evaluate(() => window.tidegate.stop());
  // Each site reports all clusters, as in a fleet.
  const reports = { members: [], refused: {}, nats: null, sites: Array.from({ length: 20 }, (_, s) => ({ site: `site-${String(s).padStart(2, '0')}`, own: s === 0, live: true, members: 50, expected: 50, age_s: 1, services: [], clusters: generated(20, 50, 0).clusters.map(c => ({ name: c.name, state: c.state, requests_per_s: c.requests_per_s })) })) };
  const frames = [];
  for (let second = 0; second < 20; second++) {
    // All that a second costs until the page is laid out: the snapshot is recorded, the page is drawn. The first ones
    // compile the program.
    frames[Math.max(0, second - 4)] = (await page.evaluate(([made, fleet]) => new Promise(done => {
      const t = window.tidegate;
      t.alone = true; t.fleet = fleet; t.fleetHeard = performance.now();
      let begun = 0;
      requestAnimationFrame(() => { begun = performance.now(); });
      const before = performance.now();
      t.snapshot(made);
      const recorded = performance.now() - before;
      requestAnimationFrame(() => { document.body.getBoundingClientRect(); done(recorded + performance.now() - begun); });
    }), [generated(20, 50, second), reports]));
    await page.waitForTimeout(100);
  }
  frames.sort((a, b) => a - b);
  const median = frames[Math.floor(frames.length / 2)];
  console.log(`# frame of 1,000 clusters: median ${median.toFixed(1)} ms, worst ${frames.at(-1).toFixed(1)} ms`);
  await page.screenshot({ path: path.join(screens, 'map-thousand.png') });
  // The short form shares its processors with whatever else runs; only the long form judges the machine's speed.
  assert.ok(median < (long ? 50 : 200), `${median} ms`);
  assert.ok(await page.locator('table.dense tbody tr').count() < 200, 'only the rows in sight are in the page');
  await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  await page.waitForSelector('table.dense th a:text-is("s19-c49")');
  await page.ends();
});

test('the thirty-third viewer is told to come back', { timeout: 30000 }, async () => {
  const held = [];
  try {
    let refused = null;
    for (let i = 0; i < 40 && !refused; i++) {
      const abort = new AbortController();
      const answer = await fetch(proxy.url + '/api/v1/events', { signal: abort.signal });
      held.push({ abort, answer });   // the answer, too: a stream that is collected as garbage is closed
      if (answer.status === 503) refused = { i, after: answer.headers.get('retry-after') };
    }
    assert.ok(refused && refused.i <= 32 && refused.i >= 30, JSON.stringify(refused));
    assert.equal(refused.after, '1');
    const page = await browser.newPage();
    await watch(page, proxy, ['503']);
    if (process.env.DASHBOARD_ASSETS) await fromSource(page);
    await page.goto(proxy.url + '/');
    await page.waitForSelector('.verdict h1:has-text("watch this proxy already")');
    held.forEach(one => one.abort.abort());
    await page.waitForSelector('.verdict.t-home, .verdict.t-away', { timeout: 15000 });   // it comes in by itself
    await page.ends();
  } finally { held.forEach(one => one.abort.abort()); }
});

test('vendored libraries are the files of the registry', () => {
  const find = createRequire(import.meta.url), vendor = name => fs.readFileSync(path.resolve(here, '../../src/admin/dashboard/assets/vendor', name));
  const module = (name, file) => fs.readFileSync(path.join(here, 'node_modules', name, file));
  for (const [mine, name, file] of [['preact.js', 'preact', 'dist/preact.mjs'], ['htm.js', 'htm', 'dist/htm.module.js'], ['uplot.js', 'uplot', 'dist/uPlot.esm.js'], ['uplot.css', 'uplot', 'dist/uPlot.min.css'], ['preact.LICENSE.txt', 'preact', 'LICENSE'], ['htm.LICENSE.txt', 'htm', 'LICENSE'], ['uplot.LICENSE.txt', 'uplot', 'LICENSE']]) assert.ok(vendor(mine).equals(module(name, file)), mine);
  assert.ok(find);
});

test('the cost since the start is that of the API, by service and cluster', { timeout: 60000 }, async () => {
  load.set('shop.example.com/cart', 60);
  const first = async () => (await proxy.json('/api/v1/cost')).services.find(s => s.name === 'shop').clusters[0];
  await until('a request is paid', async () => (await first()).requests > 0, 20);
  const page = await open('#/cost');
  const panel = 'section:has(h2:text-is("Since the start"))';
  const line = `${panel} tbody tr:has(th a:text-is("shop")):has(td a:text-is("shop-idc"))`;
  await page.waitForSelector(line);
  const cells = await page.locator(`${line} td`).allTextContents();
  assert.match(cells.join('|'), /^shop-idc\|[0-9,]+\|[0-9.]+\s(B|[KMG]iB)\|[0-9.]+\s(B|KiB)\|\$0\.00$/);
  assert.match(await page.textContent(panel), /Not included: .*probes/);
  usual();
  await page.ends();
});

test('every view has its picture, without an error, within its width', { timeout: 300000 }, async () => {
  const views = ['map', 'services/shop', 'clusters/shop-idc', 'sites/idc-east', 'why/shop.example.com/cart', 'decisions', 'config', 'cost?range=1h'];
  const sizes = long ? [[1280, 'light'], [1280, 'dark'], [360, 'light'], [360, 'dark']] : [[1280, 'light'], [360, 'dark']];
  load.set('shop.example.com/cart', 480);
  await until('shop spills', async () => (await proxy.json('/api/v1/services'))[0].spilling, 20);
  const listed = await open('#/decisions');
  await listed.waitForSelector('.decisions tbody tr:has(.chip:text-is("spill")) .req a');
  assert.ok(await listed.locator('.decisions tbody tr').count() < 40, 'the same decision many times is one line');
  await listed.click('.decisions tbody tr:has(.chip:text-is("spill")) .req a');
  await listed.waitForSelector('.lane.took');
  assert.match(new URL(listed.url()).hash, /^#\/why\?id=[0-9a-f]{32}$/);
  views.push(new URL(listed.url()).hash.slice(2));
  assert.match(await listed.textContent('.verdict h1'), /because nearer clusters were full/);
  await listed.screenshot({ path: path.join(screens, 'why-past.png'), fullPage: true });
  await listed.click('.verdict a:text-is("And now?")');
  await listed.waitForSelector('.lane.runs');
  assert.equal(new URL(listed.url()).hash, '#/why/shop.example.com/cart');
  await listed.ends();
  for (const [width, theme] of sizes) {
    const page = await open('#/map', { width, theme, height: width === 360 ? 780 : 1000 });
    for (const view of views) {
      await page.goto(`${proxy.url}/#/${view}`);
      await page.waitForFunction(v => document.querySelector('main')?.classList.contains('v-' + v) && !document.querySelector('.skel'), view.split(/[/?]/)[0]);
      await page.waitForTimeout(long ? 600 : 250);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${view} at ${width}: ${over} px too wide`);
      await page.screenshot({ path: path.join(screens, `${view.startsWith('why?') ? 'why-past' : view.split(/[/?]/)[0]}-${width}-${theme}.png`), fullPage: true });
    }
    await page.ends();
  }
  usual();
});
