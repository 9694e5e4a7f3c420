// Three sites on loopback: a proxy and a cluster each, and between any two of them a link of a small user-space WAN that
// can be slow, lose one direction, or be cut. How the proxies hear of each other is a parameter.

import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { Load, Proxy, Toy, freePort, until } from './rig.mjs';

export const SITES = ['idc-east', 'cloud-near', 'cloud-far'];
// Milliseconds one way between two sites.
const WAY = { 'idc-east cloud-near': 6, 'idc-east cloud-far': 30, 'cloud-near cloud-far': 20 };
const way = (a, b) => WAY[`${a} ${b}`] ?? WAY[`${b} ${a}`];

// A TCP relay. What is lost stays lost, as on a cut line: nobody is told, and connections hang.
export class Relay {
  constructor(target, delay) { this.target = target; this.delay = delay; this.lost = { there: false, back: false }; this.open = new Set(); }
  async start() {
    this.server = net.createServer({ allowHalfOpen: true }, client => this.carry(client));
    this.port = await freePort();
    await new Promise((done, fail) => { this.server.once('error', fail); this.server.listen(this.port, '127.0.0.1', done); });
    return this;
  }
  carry(client) {
    const upstream = net.connect({ port: this.target, host: '127.0.0.1', allowHalfOpen: true });
    const later = act => setTimeout(act, this.delay);   // one delay for all that passes: the order is kept
    const pass = (from, to, direction) => {
      from.setNoDelay(true); this.open.add(from);
      from.on('data', bytes => later(() => { if (!this.lost[direction] && to.writable) to.write(bytes); }));
      from.on('end', () => later(() => { if (!this.lost[direction]) to.end(); }));
      from.on('error', () => later(() => to.destroy()));
      from.on('close', () => this.open.delete(from));
    };
    pass(client, upstream, 'there'); pass(upstream, client, 'back');
  }
  cut() { this.lost = { there: true, back: true }; }
  // TCP would send lost bytes again: the connections that lost some end, and new ones work.
  mend() { this.lost = { there: false, back: false }; for (const s of this.open) s.destroy(); }
  stop() { this.server.close(); for (const s of this.open) s.destroy(); }
}

// A NATS server with these lines of configuration; it keeps its port when it returns.
class NatsServer {
  constructor(lines) { this.lines = lines; this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidegate-nats-')); }
  async start() {
    this.port ||= await freePort();
    const file = path.join(this.folder, 'nats.conf');
    fs.writeFileSync(file, `listen: "127.0.0.1:${this.port}"\n${this.lines}\n`);
    this.child = spawn('nats-server', ['--config', file], { stdio: 'ignore', env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` } });
    this.child.on('error', error => { this.failed = error; });
    await until('the NATS server listens', () => { if (this.failed) throw this.failed; return new Promise(done => {
      const socket = net.connect(this.port, '127.0.0.1', () => { socket.destroy(); done(true); });
      socket.on('error', () => done(false));
    }); });
    return this;
  }
  async stop() { if (this.child?.exitCode === null && this.child.signalCode === null && !this.failed) { const ended = new Promise(done => this.child.once('exit', done)); this.child.kill('SIGKILL'); await ended; } }
  async end() { await this.stop(); fs.rmSync(this.folder, { recursive: true, force: true }); }
}

// How proxies hear of each other: the lines of the configuration of a site, and what carries their reports.
class Peers {
  // Every two sites have a line of their own.
  meshed = true;
  async start(world) { this.world = world; }
  lines(own) {
    const at = site => this.world.link(own, site, 'admin').port, others = SITES.filter(site => site !== own);
    return `fleet: { peers: [${others.map(site => `{ site: ${site}, url: "http://127.0.0.1:${at(site)}" }`).join(', ')}] }\n`;
  }
  // The lines that carry the reports of a site to another one, and those that lose what the first hears of the second.
  carriers(a, b) { return [this.world.link(a, b, 'admin'), this.world.link(b, a, 'admin')]; }
  deafen(a, b) { const line = this.world.link(a, b, 'admin'); line.lost.back = true; return line; }
  async kill() {}
  async revive() {}
  async end() {}
}
// A NATS server at each site, and a hub at a fourth place that joins them as leaf nodes.
class Nats {
  meshed = false;
  async start() {
    const leaves = await freePort();
    this.hub = await new NatsServer(`leafnodes { listen: "127.0.0.1:${leaves}" }`).start();
    this.uplinks = new Map(); this.servers = new Map();
    for (const site of SITES) {
      const uplink = await new Relay(leaves, 10).start();
      this.uplinks.set(site, uplink);
      this.servers.set(site, await new NatsServer(`leafnodes { reconnect: 1, remotes: [{ url: "nats-leaf://127.0.0.1:${uplink.port}" }] }`).start());
    }
  }
  lines(own) { return `fleet: { nats: { url: "nats://127.0.0.1:${this.servers.get(own).port}" } }\n`; }
  // A site that is cut off from the hub is cut off from all others.
  carriers(a, b) { return [this.uplinks.get(b)]; }
  deafen(a) { const line = this.uplinks.get(a); line.lost.back = true; return line; }
  async kill(site) { await this.servers.get(site).stop(); }
  async revive(site) { await this.servers.get(site).start(); }
  async end() { for (const server of [...(this.servers?.values() ?? []), this.hub]) await server?.end(); for (const line of this.uplinks?.values() ?? []) line.stop(); }
}
export const TOPOLOGIES = { peers: Peers, nats: Nats };

export class World {
  constructor(topology = 'peers') { this.fleet = new TOPOLOGIES[topology](); this.sites = new Map(); this.links = new Map(); }
  link(from, to, what) { return this.links.get(`${from} ${to} ${what}`); }
  async start() {
    for (const name of SITES) {
      const toy = await new Toy({ service: 20, way: 1 }).start();
      toy.bytes = 2000;
      this.sites.set(name, { name, toy, admin: await freePort() });
    }
    for (const from of SITES) for (const to of SITES) {
      if (from === to) continue;
      const there = this.sites.get(to);
      this.links.set(`${from} ${to} admin`, await new Relay(there.admin, way(from, to)).start());
      this.links.set(`${from} ${to} data`, await new Relay(there.toy.port, way(from, to)).start());
    }
    await this.fleet.start(this);
    for (const site of this.sites.values()) {
      site.proxy = new Proxy(this.config(site.name));
      site.proxy.admin = site.admin;
    }
    await Promise.all([...this.sites.values()].map(site => site.proxy.start()));
    for (const site of this.sites.values()) {
      site.load = new Load(site.proxy.web);
      site.load.set('shop.example.com/cart', 20);
    }
    return this;
  }
  config(own) {
    const others = SITES.filter(name => name !== own);
    const at = site => site === own ? this.sites.get(site).toy.port : this.link(own, site, 'data').port;
    const probe = 'probe: { kind: http, path: /healthz, interval: 500ms, timeout: 400ms }';
    const order = [own, ...others].map(site => `at-${site}`);
    return `site: { name: ${own}, environment: production }\n${this.fleet.lines(own)}sites:
  idc-east: { kind: idc, accepts: [general, sensitive] }
  cloud-near: { kind: cloud, cost: { per_gib: 0.09, per_million_requests: 0.40 } }
  cloud-far: { kind: cloud, cost: { per_gib: 0.09, per_million_requests: 0.40 } }
clusters:
${SITES.map(site => `  at-${site}: { site: ${site}, endpoints: ["127.0.0.1:${at(site)}"], ${probe} }`).join('\n')}
services: { shop: { clusters: [${order.join(', ')}] } }
routes: [{ hosts: [shop.example.com], service: shop }]
`;
  }
  get(name) { return this.sites.get(name); }
  // All lines between two sites, both ways: of reports and of requests.
  between(a, b) { return [...this.fleet.carriers(a, b), this.link(a, b, 'data'), this.link(b, a, 'data')]; }
  // A site without power: its proxy, its cluster and what carries its reports are gone.
  async kill(name) { const site = this.get(name); await site.proxy.stop(); await this.fleet.kill(name); await site.toy.kill(); }
  async revive(name) { const site = this.get(name); await site.toy.start(); await this.fleet.revive(name); await site.proxy.start(); }
  async end() {
    for (const site of this.sites.values()) { site.load?.stop(); await site.proxy?.end(); try { await site.toy.kill(); } catch { /* gone already */ } }
    await this.fleet.end();
    for (const link of this.links.values()) link.stop();
  }
}
