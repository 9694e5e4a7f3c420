// CORS in a real browser: what pages of other origins may do is decided by Chromium, from the proxy's answers.

import test, { after, before } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import { launch } from './browser.mjs';
import { Proxy } from './rig.mjs';

let browser, app, shop, foreign, proxy;

// A server on a port of its own, which is an origin of its own.
async function serve(answer) {
  const server = http.createServer(answer);
  await new Promise((done, fail) => { server.once('error', fail); server.listen(0, '127.0.0.1', done); });
  const end = () => new Promise(done => { server.close(done); server.closeAllConnections(); });
  return { url: `http://127.0.0.1:${server.address().port}`, end };
}
const blank = (request, response) => { response.setHeader('content-type', 'text/html'); response.end('<!doctype html><title>page</title>'); };

before(async () => {
  browser = await launch();
  shop = await serve(blank); foreign = await serve(blank);
  // The application knows nothing of CORS: its own answer to a preflight would permit nothing.
  app = await serve((request, response) => {
    app.seen.push(`${request.method} ${request.url}`);
    let body = '';
    request.on('data', part => { body += part; });
    request.on('end', () => {
      const { cookie = '', origin = '', 'x-cart': cart = '' } = request.headers;
      response.writeHead(200, { 'content-type': 'application/json', 'x-total': '3', 'x-secret': '4' });
      response.end(JSON.stringify({ body, cookie, origin, cart }));
    });
  });
  app.seen = [];
  proxy = await new Proxy(`clusters: { app: { endpoints: ["${new URL(app.url).host}"] } }
services:
  app:
    clusters: [app]
    cors: { origins: ["${shop.url}"], methods: [GET, PUT], headers: [x-cart], expose: [x-total], credentials: true }
routes:
  - { path_prefix: /, service: app }
`).start();
}, { timeout: 60000 });
after(async () => { await browser?.close(); await proxy?.end(); for (const server of [app, shop, foreign]) await server?.end(); });

// Fetches from the proxy in a page of an origin; what the page can read, or the error.
async function from(origin, path, options) {
  const context = await browser.newContext();
  try {
    await context.addCookies([{ name: 'session', value: 'ada', url: `http://127.0.0.1:${proxy.web}` }]);
    const page = await context.newPage();
    await page.goto(origin.url);
    app.seen = [];
    return await page.evaluate(async ([url, options]) => {
      try {
        const response = await fetch(url, options);
        const { status, headers } = response;
        return { status, total: headers.get('x-total'), secret: headers.get('x-secret'), ...await response.json() };
      } catch (error) { return { error: error.name }; }
    }, [`http://127.0.0.1:${proxy.web}${path}`, options]);
  } finally { await context.close(); }
}

const PUT = { method: 'PUT', credentials: 'include', headers: { 'x-cart': '7' }, body: 'one' };
const REFUSED = { error: 'TypeError' };

test('a page of an allowed origin sends PUT with a field of its own and the cookie, and reads the answer', { timeout: 30000 }, async () => {
  const read = await from(shop, '/cart', PUT);
  assert.deepEqual(read, { status: 200, total: '3', secret: null, body: 'one', cookie: 'session=ada', origin: shop.url, cart: '7' });
  assert.deepEqual(app.seen, ['PUT /cart'], 'the proxy has answered the preflight');
});

test('a page of an allowed origin may not use what the rules do not list', { timeout: 30000 }, async () => {
  assert.deepEqual(await from(shop, '/cart', { ...PUT, headers: { 'x-other': '7' } }), REFUSED);
  assert.deepEqual(await from(shop, '/cart', { ...PUT, method: 'DELETE' }), REFUSED);
  assert.deepEqual(app.seen, [], 'the browser has refused by the answer to the preflight');
});

test('a page of a foreign origin is refused by the browser', { timeout: 30000 }, async () => {
  assert.deepEqual(await from(foreign, '/cart', PUT), REFUSED);
  assert.deepEqual(app.seen, [], 'its PUT is not sent after the preflight');
  // A simple request is sent, and the page cannot read the answer.
  assert.deepEqual(await from(foreign, '/cart', { credentials: 'include' }), REFUSED);
  assert.deepEqual(app.seen, ['GET /cart']);
  assert.deepEqual(await from(foreign, '/cart', {}), REFUSED);
});

test('a page without credentials sends no cookie', { timeout: 30000 }, async () => {
  const read = await from(shop, '/cart', {});
  assert.deepEqual([read.status, read.cookie], [200, '']);
});
