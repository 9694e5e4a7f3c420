// What viewers cost: the processor time of the thread that serves the admin API, by the number of viewers, with 20 sites of
// 50 clusters; and, with --load, what the data plane serves meanwhile (h2load). Fails if one viewer costs more than 2 % of a core.
//     TIDEGATE=target/release/tidegate node tests/dashboard/cost.mjs [--load] [SITES] [CLUSTERS]

import fs from 'node:fs';
import { spawnSync, spawn } from 'node:child_process';
import { Proxy, Toy } from './rig.mjs';

const load = process.argv.includes('--load'), [sites = 20, each = 50] = process.argv.slice(2).filter(a => a !== '--load').map(Number);
const SECONDS = Number(process.env.SECONDS || 15), wait = seconds => new Promise(done => setTimeout(done, seconds * 1000));
const names = Array.from({ length: sites }, (_, s) => Array.from({ length: each }, (_, c) => `s${s}-c${c}`));

const toy = await new Toy().start();
// One cluster of each site for each service, as in a fleet of sites that all run the same applications.
const config = `sites: { ${names.map((_, s) => `s${s}: { kind: cloud }`).join(', ')} }
clusters:
${names.flat().map(n => `  ${n}: { site: ${n.split('-')[0]}, endpoints: ["127.0.0.1:${toy.port}"], probe: { interval: 10s, timeout: 1s } }`).join('\n')}
services:
${Array.from({ length: each }, (_, c) => `  service-${c}: { clusters: [${names.map(of => of[c]).join(', ')}] }`).join('\n')}
  fixed: { clusters: [s0-c0] }
routes:
  - { path: /fixed, respond: { status: 200, body: ok } }
${Array.from({ length: each }, (_, c) => `  - { hosts: [h${c}.example], service: service-${c} }`).join('\n')}
`;
const proxy = await new Proxy(config).start(), clock = Number(spawnSync('getconf', ['CLK_TCK']).stdout);
await wait(5);

// Processor seconds of the threads with this name.
function used(name) {
  let ticks = 0;
  for (const task of fs.readdirSync(`/proc/${proxy.child.pid}/task`)) {
    const stat = fs.readFileSync(`/proc/${proxy.child.pid}/task/${task}/stat`, 'utf8'), after = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (stat.includes(`(${name}`)) ticks += Number(after[11]) + Number(after[12]);
  }
  return ticks / clock;
}
async function viewers(count) {
  const open = [];
  let bytes = 0;
  for (let i = 0; i < count; i++) {
    const abort = new AbortController(), answer = await fetch(`${proxy.url}/api/v1/events`, { signal: abort.signal });
    (async () => { try { for await (const part of answer.body) bytes += part.length; } catch { /* ended below */ } })();
    // A page asks for the fleet each two seconds.
    const timer = setInterval(() => fetch(`${proxy.url}/api/v1/fleet`).then(a => a.arrayBuffer()).catch(() => {}), 2000);
    open.push(() => { abort.abort(); clearInterval(timer); });
  }
  return { bytes: () => bytes, end: () => open.forEach(close => close()) };
}

// With one viewer the thread may use two hundredths of a core.
const ALLOWED = 2;
let isKept = true;
for (const count of load ? [0, 32, 0, 32, 0, 32] : [0, 1, 8, 32]) {
  const all = await viewers(count);
  await wait(2);
  const before = used('background'), worked = used('worker-'), from = all.bytes(), since = performance.now();
  let served = '';
  if (load) {
    const run = spawn('h2load', ['--h1', '-t', '1', '-c', '16', '-D', String(SECONDS), `http://127.0.0.1:${proxy.web}/fixed`]);
    let text = ''; run.stdout.on('data', t => { text += t; });
    await new Promise(done => run.on('exit', done));
    const done = Number(/(\d+) succeeded/.exec(text)?.[1]);
    served = `, ${(done / SECONDS).toFixed(0)} requests/s, ${(1e6 * (used('worker-') - worked) / done).toFixed(2)} us of the worker's processor time a request`;
  } else await wait(SECONDS);
  const seconds = (performance.now() - since) / 1000, share = 100 * (used('background') - before) / seconds;
  if (count === 1 && share > ALLOWED) isKept = false;
  console.log(`${count} viewers: ${share.toFixed(2)} % of a core, ${((all.bytes() - from) / seconds / 1000).toFixed(0)} kB/s${served}`);
  all.end();
}
await proxy.end(); await toy.kill();
if (!isKept) console.log(`more than ${ALLOWED} % with one viewer`);
process.exit(isKept ? 0 : 1);
