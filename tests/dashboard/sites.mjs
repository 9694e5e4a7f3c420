// Three sites on loopback: a proxy and a cluster each, and between any two of them a link of a small user-space WAN that
// can be slow, lose one direction, or be cut. How the proxies hear of each other is a parameter.

import net from 'node:net';
import { Load, Proxy, Toy, freePort } from './rig.mjs';

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

// How proxies hear of each other: the lines of the configuration, for a site with these addresses of others.
export const TOPOLOGIES = {
  peers: others => `fleet: { peers: [${others.map(o => `{ site: ${o.site}, url: "http://127.0.0.1:${o.admin}" }`).join(', ')}] }\n`,
};

export class World {
  constructor(topology = 'peers') { this.topology = TOPOLOGIES[topology]; this.sites = new Map(); this.links = new Map(); }
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
    const others = SITES.filter(name => name !== own).map(site => ({ site, admin: this.link(own, site, 'admin').port }));
    const at = site => site === own ? this.sites.get(site).toy.port : this.link(own, site, 'data').port;
    const probe = 'probe: { kind: http, path: /healthz, interval: 500ms, timeout: 400ms }';
    const order = [own, ...others.map(o => o.site)].map(site => `at-${site}`);
    return `site: { name: ${own}, environment: production }\n${this.topology(others)}sites:
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
  // The lines between two sites, both ways.
  between(a, b) { return [...this.links.entries()].filter(([key]) => key.startsWith(`${a} ${b} `) || key.startsWith(`${b} ${a} `)).map(([, link]) => link); }
  // A site without power: its proxy and its cluster are gone.
  async kill(name) { const site = this.get(name); await site.proxy.stop(); await site.toy.kill(); }
  async revive(name) { const site = this.get(name); await site.toy.start(); await site.proxy.start(); }
  async end() {
    for (const site of this.sites.values()) { site.load?.stop(); await site.proxy?.end(); try { await site.toy.kill(); } catch { /* gone already */ } }
    for (const link of this.links.values()) link.stop();
  }
}
