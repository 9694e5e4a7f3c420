// Toy clusters, a proxy and a load, all on loopback: what the browser tests look at.

import http from 'node:http';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { spawn } from 'node:child_process';

export const TOKEN = 'correct horse battery staple';
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const binary = process.env.TIDEGATE || path.join(root, 'target/debug/tidegate');

// A cluster of one endpoint: `slots` requests at once, each `service` ms, `way` ms there and back.
export class Toy {
  constructor({ slots = 1000, service = 5, way = 0, status = 200 } = {}) { Object.assign(this, { slots, service, way, status, busy: 0, queue: [], port: 0, sockets: new Set() }); }
  async start() {
    this.server = http.createServer((request, response) => this.serve(request, response));
    this.server.keepAliveTimeout = 60000;
    this.server.on('connection', s => { this.sockets.add(s); s.on('close', () => this.sockets.delete(s)); });
    await new Promise((done, fail) => { this.server.once('error', fail); this.server.listen(this.port, '127.0.0.1', done); });
    this.port = this.server.address().port;
    return this;
  }
  serve(request, response) {
    const probe = request.url === '/healthz';
    setTimeout(() => {
      if (probe) { response.end('ok'); return; }
      this.queue.push(response); this.next();
    }, this.way);
    request.resume();
  }
  next() {
    while (this.busy < this.slots && this.queue.length) {
      const response = this.queue.shift(); this.busy += 1;
      setTimeout(() => { this.busy -= 1; response.statusCode = this.status; response.end('x'.repeat(this.bytes || 200)); this.next(); }, this.service);
    }
  }
  // Gone: connections and all. start() brings it back on the same port.
  async kill() { const ended = new Promise(done => this.server.close(done)); for (const s of this.sockets) s.destroy(); this.queue = []; this.busy = 0; await ended; }
}

export class Load {
  constructor(port, host = 'shop.example.com') { this.port = port; this.host = host; this.rates = new Map(); this.sent = 0; this.failed = 0; this.agent = new http.Agent({ keepAlive: true, maxSockets: 200 }); this.owed = new Map(); this.last = performance.now(); this.timer = setInterval(() => this.tick(), 20); }
  set(target, rate) { this.rates.set(target, rate); }
  tick() {
    const now = performance.now(), seconds = Math.min(0.5, (now - this.last) / 1000); this.last = now;
    for (const [target, rate] of this.rates) {
      let owed = (this.owed.get(target) || 0) + rate * seconds;
      for (; owed >= 1; owed -= 1) this.one(target);
      this.owed.set(target, owed);
    }
  }
  one(target) {
    const at = target.indexOf('/'), host = target.slice(0, at), path = target.slice(at); this.sent += 1;
    const request = http.get({ port: this.port, path, headers: { host }, agent: this.agent, timeout: 8000 }, response => { if (response.statusCode >= 500) this.failed += 1; response.resume(); });
    request.on('error', () => { this.failed += 1; }); request.on('timeout', () => request.destroy());
  }
  stop() { clearInterval(this.timer); this.agent.destroy(); }
}

export async function freePort() { const s = http.createServer(); await new Promise(done => s.listen(0, '127.0.0.1', done)); const { port } = s.address(); await new Promise(done => s.close(done)); return port; }

export async function until(what, test, seconds = 10) {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    const value = await test();
    if (value) return value;
    if (performance.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise(done => setTimeout(done, 50));
  }
}

// A proxy with a configuration in a folder of its own.
export class Proxy {
  constructor(config, { token = true } = {}) { this.config = config; this.token = token; this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidegate-dashboard-')); this.log = ''; }
  get file() { return path.join(this.folder, 'tidegate.yaml'); }
  write(config) { fs.writeFileSync(this.file + '.new', this.head + config); fs.renameSync(this.file + '.new', this.file); }
  async start() {
    this.admin ||= await freePort(); this.web ||= await freePort();
    fs.writeFileSync(path.join(this.folder, 'token'), TOKEN + '\n', { mode: 0o600 });
    this.head = `admin: { address: 127.0.0.1:${this.admin}${this.token ? ', token_file: token' : ''} }\naccess_log: { format: off }\nlisteners: { web: { address: 127.0.0.1:${this.web}, protocol: http } }\nruntime: { workers: 1 }\n`;
    this.write(this.config);
    this.child = spawn(binary, ['run', '--config', this.file], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout, this.child.stderr]) stream.on('data', text => { this.log = (this.log + text).slice(-20000); });
    this.url = `http://127.0.0.1:${this.admin}`;
    await until(`the proxy is ready: ${this.log}`, async () => { if (this.child.exitCode !== null) throw new Error(`the proxy ended: ${this.log}`); try { return (await fetch(this.url + '/readyz')).ok; } catch { return false; } }, 15);
    return this;
  }
  async json(path) { return (await fetch(this.url + path)).json(); }
  tell(method, path, body) { return fetch(this.url + path, { method, headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' }, body }); }
  async stop() { if (this.child && this.child.exitCode === null && this.child.signalCode === null) { const ended = new Promise(done => this.child.once('exit', done)); this.child.kill('SIGKILL'); await ended; } }
  async end() { await this.stop(); fs.rmSync(this.folder, { recursive: true, force: true }); }
}

// The world of the pictures: a data centre that takes 50 requests/s for each of its slots, a near cloud and a far one.
export async function world({ slots = 8 } = {}) {
  const toys = {
    shop: await new Toy({ slots, service: 20, way: 1 }).start(), render: await new Toy({ slots: 20, service: 60, way: 1 }).start(),
    shopNear: await new Toy({ service: 20, way: 28 }).start(), renderNear: await new Toy({ service: 60, way: 29 }).start(), shopFar: await new Toy({ service: 22, way: 71 }).start(),
  };
  toys.shopNear.bytes = 20000; toys.shopFar.bytes = 20000; toys.shop.bytes = 2000;
  const at = t => `127.0.0.1:${t.port}`, probe = 'probe: { kind: http, path: /healthz, interval: 500ms, timeout: 400ms }';
  const config = `site: { name: idc-east, environment: production }
sites:
  idc-east: { kind: idc, accepts: [general, personal, sensitive] }
  cloud-near: { kind: cloud, accepts: [general, personal], cost: { per_gib: 0.09, per_million_requests: 0.40 } }
  cloud-far: { kind: cloud, accepts: [general], cost: { per_gib: 0.09, per_million_requests: 0.40 } }
clusters:
  shop-idc: { site: idc-east, endpoints: ["${at(toys.shop)}"], capacity: { concurrent: 400 }, ${probe} }
  render-idc: { site: idc-east, endpoints: ["${at(toys.render)}"], offers: [gpu], ${probe} }
  shop-near: { site: cloud-near, endpoints: ["${at(toys.shopNear)}"], ${probe} }
  render-near: { site: cloud-near, endpoints: ["${at(toys.renderNear)}"], offers: [gpu], ${probe} }
  shop-far: { site: cloud-far, endpoints: ["${at(toys.shopFar)}"], ${probe} }
services:
  shop: { clusters: [shop-idc, shop-near, shop-far], data: general, budget: { usd_per_hour: 8 } }
  checkout: { clusters: [shop-idc, shop-near, shop-far], data: sensitive }
  render: { clusters: [render-idc, render-near], needs: [gpu] }
routes:
  - { hosts: [shop.example.com], path_prefix: /checkout, service: checkout }
  - { hosts: [shop.example.com], path_prefix: /account, service: shop, data: personal }
  - { hosts: [shop.example.com], path_prefix: /, service: shop }
  - { hosts: [render.example.com], service: render }
`;
  return { toys, config, end: async () => { for (const t of Object.values(toys)) { try { await t.kill(); } catch { /* gone already */ } } } };
}
