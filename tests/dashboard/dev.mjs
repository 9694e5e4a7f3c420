// For work on the page: the files from the source tree, everything else from a proxy's admin API; with --world also toy
// clusters, a proxy and a load.    node tests/dashboard/dev.mjs [--world] [PORT] [ADMIN]

import http from 'node:http';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as rig from './rig.mjs';

const args = process.argv.slice(2).filter(a => a !== '--world'), port = Number(args[0] || 9900);
const assets = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../src/admin/dashboard/assets');
const KIND = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml', '.woff2': 'font/woff2' };
let admin = Number(args[1] || 9901);
if (process.argv.includes('--world')) {
  const w = await rig.world({ slots: 3 }), proxy = await new rig.Proxy(w.config).start(), load = new rig.Load(proxy.web);
  admin = proxy.admin;
  load.set('shop.example.com/cart', 80); load.set('shop.example.com/checkout/pay', 14); load.set('render.example.com/v1/frames', 6);
  http.createServer(async (request, response) => {
    // GET /load/TARGET/RATE, /kill/NAME, /start/NAME
    const [, verb, ...rest] = decodeURIComponent(request.url).split('/');
    try { if (verb === 'load') load.set(rest.slice(0, -1).join('/'), Number(rest.at(-1))); else if (verb === 'kill') await w.toys[rest[0]].kill(); else if (verb === 'start') await w.toys[rest[0]].start(); else if (verb === 'config') proxy.write(w.config.replace('clusters: [shop-idc, shop-near, shop-far], data: general', 'clustrs: [shop-idc, shop-near, shop-far], data: general')); else if (verb === 'good') proxy.write(w.config); response.end('ok\n'); } catch (error) { response.end(String(error)); }
  }).listen(port + 1, '127.0.0.1');
  process.on('SIGTERM', async () => { load.stop(); await proxy.end(); process.exit(0); });
  console.log(`proxy :${proxy.web}, admin ${proxy.url}, token "${rig.TOKEN}", folder ${proxy.folder}`);
}
http.createServer((request, response) => {
  const name = request.url === '/' || request.url.startsWith('/?') ? 'index.html' : request.url.startsWith('/dashboard/') ? request.url.slice(11).split('?')[0] : null;
  if (name) {
    fs.readFile(path.join(assets, name), (error, bytes) => { response.writeHead(error ? 404 : 200, { 'content-type': KIND[path.extname(name)] || 'text/plain', 'cache-control': 'no-store', 'content-security-policy': "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" }); response.end(bytes); });
    return;
  }
  const on = http.request({ port: admin, method: request.method, path: request.url, headers: { ...request.headers, host: `127.0.0.1:${admin}`, ...(request.headers.origin ? { origin: `http://127.0.0.1:${admin}` } : {}) } }, answer => { response.writeHead(answer.statusCode, answer.headers); answer.pipe(response); });
  on.on('error', () => { response.writeHead(502); response.end(); });
  request.pipe(on); response.on('close', () => on.destroy());
}).listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${port}/`));
