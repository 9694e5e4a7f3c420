// Debian's Chromium, and a page of the dashboard that fails its test on any error.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { TOKEN } from './rig.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const screens = path.join(root, 'target/screens');

export async function launch() {
  fs.mkdirSync(screens, { recursive: true });
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  return chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args });
}

// The page's files from the source tree.
export async function fromSource(page) {
  const assets = path.join(root, 'src/admin/dashboard/assets');
  await page.route('**/dashboard/**', route => route.fulfill({
    path: path.join(assets, new URL(route.request().url()).pathname.slice('/dashboard/'.length)),
  }));
}

// From here on any error of the page, violation of its policy and request elsewhere fails its test at `ends`.
export async function watch(page, at, quiet = []) {
  page.wrong = [];
  page.setDefaultTimeout(10000);   // less than a test's: a step that hangs has its name in the report
  page.on('console', m => {
    const is = ['error', 'warning'].includes(m.type()) && !quiet.some(q => m.text().includes(q));
    if (is) page.wrong.push(`${m.type()}: ${m.text()}`);
  });
  page.on('pageerror', e => page.wrong.push(`error: ${e.message}`));
  page.on('request', r => {
    const ours = r.url().startsWith(at.url + '/') || r.url().startsWith('data:');
    if (!ours) page.wrong.push(`request elsewhere: ${r.url()}`);
  });
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', e => { console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`); });
  });
  page.ends = async () => { assert.deepEqual(page.wrong, []); await page.close(); };
}

// A page that fails its test on any error, any violation of the content security policy and any request elsewhere.
// With DASHBOARD_ASSETS set, the page's files come from the source tree instead of the binary.
export async function openPage(browser, hash = '#/map', options) {
  const { width = 1280, height = 1000, theme = 'light', at, token = false, quiet = [] } = options;
  const page = await browser.newPage({ viewport: { width, height }, colorScheme: theme, reducedMotion: 'reduce' });
  await watch(page, at, quiet);
  if (token) {
    await page.addInitScript(t => {
      sessionStorage.setItem('tidegate-token', t); sessionStorage.setItem('tidegate-operator', 'Ada');
    }, TOKEN);
  }
  if (process.env.DASHBOARD_ASSETS) await fromSource(page);
  await page.goto(at.url + '/' + hash);
  await page.waitForFunction(() => window.tidegate?.status && !document.querySelector('.skel'), null, { timeout: 15000 });
  return page;
}

export const number = async (page, selector) => Number((await page.textContent(selector)).replace(/[^\d.]/g, ''));
export const row = name => `table.grouped tr:has(th a:text-is("${name}"))`;
export const siterow = name => `table.grouped tr.siterow:has(th a:text-is("${name}"))`;
