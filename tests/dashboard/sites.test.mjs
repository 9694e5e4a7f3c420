// Three proxies as three sites behind a small WAN: every site shows all sites, and none passes old news off as new.

import test, { after, before } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { launch, number, openPage, row, screens, siterow } from './browser.mjs';
import { until } from './rig.mjs';
import { SITES, TOPOLOGIES, World } from './sites.mjs';

const [EAST, NEAR, FAR] = SITES;
let browser;
before(async () => { browser = await launch(); }, { timeout: 60000 });
after(async () => { await browser?.close(); });

// The seconds after which a page must show that a site is silent: 6 s by the proxy, and the page asks each 2 s.
const PROMISED = 9;

for (const topology of Object.keys(TOPOLOGIES)) {
  test(`three sites that hear of each other by ${topology}`, { timeout: 170000 }, async t => {
    const world = new World(topology), open = (site, hash, options) => openPage(browser, hash, { at: world.get(site).proxy, quiet: ['ERR_'], ...options });
    // How long a site has been silent by the sentence in its row, in seconds; null while it is heard.
    const silence = async (page, site) => { const told = /last heard (\d+)/.exec(await page.textContent(siterow(site))); return told && Number(told[1]); };
    const heard = (page, site) => until(`${site} is heard`, async () => /1 of 1 proxy, \d+ s old/.test(await page.textContent(siterow(site))), 20);
    const shot = (page, name) => page.screenshot({ path: path.join(screens, `sites-${topology}-${name}.png`) });
    try {
      await world.start();
      const pages = new Map();
      for (const site of SITES) pages.set(site, await open(site));

      await t.test('every site shows all sites', async () => {
        for (const [own, page] of pages) {
          for (const site of SITES) await heard(page, site);
          assert.match(await page.textContent(siterow(own)), /this site/);
          // Each proxy serves its clients at home: 20 a second at every cluster, 60 over all sites.
          for (const site of SITES) await until(`${own} counts the requests at ${site}`, async () => {
            const all = (await page.locator(`${row(`at-${site}`)} td`).nth(2).textContent()).trim();
            return Number(all) > 12 && Number(all) < 30;
          }, 15);
          assert.equal(await page.locator('.banner').count(), 0);
        }
        const page = pages.get(EAST);
        await page.goto(`${world.get(EAST).proxy.url}/#/sites/${NEAR}`);
        await page.waitForSelector('section:has(h2:text-is("What it reports")) tr:has(th a:text-is("shop")) td');
        assert.match(await page.textContent('.pagehead'), /1 of 1 proxy/);
        await shot(page, 'site');
        await page.goto(`${world.get(EAST).proxy.url}/#/map`);
        await shot(page, 'map');
      });

      await t.test('a killed site is red and silent within the promised time, and returns', async () => {
        const page = pages.get(EAST), since = performance.now(), took = () => Math.round(performance.now() - since);
        await world.kill(NEAR);
        await page.waitForSelector(`.node.s-down .name:text-is("at-${NEAR}")`);
        const red = took();
        await until('its row has its age', async () => await silence(page, NEAR), PROMISED + 3);
        const silent = took();
        console.log(`# killed: the cluster red after ${red} ms, the site silent after ${silent} ms`);
        assert.ok(red < 3000, `red after ${red} ms`);
        assert.ok(silent < PROMISED * 1000, `silent after ${silent} ms`);
        const age = await silence(page, NEAR);
        assert.ok(age >= 5, `an age of ${age} s, not zero`);
        assert.match(await page.textContent('.banner'), /2 of 3 sites heard/);
        await until('the others serve on', async () => await number(page, `${row(`at-${EAST}`)} td.big`) > 10, 5);
        await shot(page, 'killed');
        await page.goto(`${world.get(EAST).proxy.url}/#/sites/${NEAR}`);
        await page.waitForSelector('table.old');
        await shot(page, 'killed-site');
        await page.goto(`${world.get(EAST).proxy.url}/#/map`);
        const cut = pages.get(NEAR);
        await cut.waitForSelector('main.cold .verdict h1:has-text("cut off")');
        await world.revive(NEAR);
        await heard(page, NEAR);
        await page.waitForSelector(['up', 'full'].map(state => `.node.s-${state} .name:text-is("at-${NEAR}")`).join(', '), { timeout: 20000 });
        assert.equal(await silence(page, NEAR), null);
        await cut.waitForSelector('main:not(.cold) .verdict', { timeout: 12000 });
        await heard(cut, EAST);
      });

      await t.test('a partition shows its age on both sides, and never zero', async () => {
        const [a, b, c] = [EAST, FAR, NEAR].map(site => pages.get(site));
        const before = await number(a, `${row(`at-${FAR}`)} td >> nth=2`);
        assert.ok(before > 10, `${before}/s at ${FAR} before`);
        for (const link of world.between(EAST, FAR)) link.cut();
        await until('the one side has an age', async () => await silence(a, FAR), PROMISED + 3);
        await until('and the other', async () => await silence(b, EAST), PROMISED + 3);
        // The last figure stays, grey, with its age.
        const cell = a.locator(`${row(`at-${FAR}`)} td.tx-none`);
        await cell.waitFor();
        assert.match(await cell.textContent(), /^[1-9]\d*\s+\d+\s?s old$/);
        assert.equal(await silence(c, EAST), null, 'the third site hears the one');
        if (world.fleet.meshed) assert.equal(await silence(c, FAR), null, 'and the other');
        else await until('and not the other, which hears nobody', async () => await silence(c, FAR) && await silence(b, NEAR), PROMISED);
        await shot(a, 'partition');
        const first = await silence(a, FAR);
        await until('the age grows', async () => await silence(a, FAR) >= first + 2, 8);
        for (const link of world.between(EAST, FAR)) link.mend();
        await heard(a, FAR);
        await heard(b, EAST);
        await a.waitForSelector('.banner', { state: 'detached', timeout: 15000 });
      });

      await t.test('a line that loses one direction leaves the other site as it was', async () => {
        const [a, b] = [pages.get(EAST), pages.get(NEAR)];
        const link = world.fleet.deafen(EAST, NEAR);   // what it hears is lost, and not what it tells
        await until('who gets no answer says so', async () => await silence(a, NEAR), PROMISED + 3);
        assert.equal(await silence(b, EAST), null);
        // Its cluster is measured from here, and up, whatever its queue is at this moment.
        await a.waitForSelector(['up', 'full'].map(state => `.node.s-${state} .name:text-is("at-${NEAR}")`).join(', '));
        link.mend();
        await heard(a, NEAR);
      });

      // On NATS an age begins at the arrival.
      if (world.fleet.meshed) await t.test('a slow line makes news older, and not wrong', async () => {
        const page = pages.get(EAST);
        world.link(EAST, FAR, 'admin').delay = 700;
        world.link(EAST, FAR, 'admin').mend();
        const far = async () => (await world.get(EAST).proxy.json('/api/v1/fleet')).members.find(m => m.site === FAR);
        await until('the old connection has ended', async () => (await far()).error !== null, 15);
        await until('an answer came by the slow line', async () => (await far()).error === null, 15);
        // A question and its answer take 1.4 s, and an answer is as old as its question.
        for (const end = performance.now() + 5000; performance.now() < end;) {
          const seen = (await far()).age_s;
          assert.ok(seen >= 1.4 && seen < 6, `${seen} s`);
          await page.waitForTimeout(100);
        }
        assert.equal(await silence(page, FAR), null);
        assert.ok(await number(page, `${row(`at-${FAR}`)} td >> nth=2`) > 10);
      });
      for (const page of pages.values()) await page.ends();
    } finally { await world.end(); }
  });
}
