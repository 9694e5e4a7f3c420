// Requests to the admin API of the proxy that served this page: relative addresses, with the token if there is one.
// The token stays in this tab: sessionStorage ends with it.

const KEY = 'tidegate-token', NAME = 'tidegate-operator';
const kept = () => { try { return sessionStorage; } catch { return null; } };
let token = kept()?.getItem(KEY) || '', operator = kept()?.getItem(NAME) || '';

export const hasToken = () => token !== '';
export const operatorName = () => operator;
export function setToken(value, name) {
  token = value; operator = name || '';
  const store = kept();
  if (!store) return;
  if (token) { store.setItem(KEY, token); store.setItem(NAME, operator); } else { store.removeItem(KEY);
    store.removeItem(NAME); }
}

function headers(more) {
  const all = { ...more };
  if (token) all.authorization = `Bearer ${token}`;
  // A header field may contain Latin-1 only.
  if (operator) all['tidegate-operator'] = operator.replace(/[^\x20-\x7e]/g, '?');
  return all;
}

// A read: { ok, status, body }. status 0: no response.
export async function get(path, seconds = 10) {
  try {
    const answer =
      await fetch(path, { headers: headers({ accept: 'application/json' }),
      signal: AbortSignal.timeout(seconds * 1000) });
    const text = await answer.text();
    let body = text;
    try { body = JSON.parse(text); } catch { /* plain text */ }
    return { ok: answer.ok, status: answer.status, body };
  } catch (error) {
    return { ok: false, status: 0, body: String(error.message || error) };
  }
}

// A write, with a result of the same form.
export async function send(method, path, body) {
  try {
    const answer =
      await fetch(path, { method, headers: headers({ 'content-type': 'application/json' }),
      body: body === undefined ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(15000) });
    const text = await answer.text();
    let told = text;
    try { told = JSON.parse(text); } catch { /* plain text */ }
    return { ok: answer.ok, status: answer.status, body: told };
  } catch (error) {
    return { ok: false, status: 0, body: String(error.message || error) };
  }
}

// Whether the proxy accepts this token: 204 yes, 401 no, 403 none is configured.
export async function tryToken(value) {
  try {
    const answer =
      await fetch('api/v1/token', { method: 'POST',
      headers: { authorization: `Bearer ${value}`, 'content-type': 'application/json' },
      signal: AbortSignal.timeout(10000) });
    return answer.status;
  } catch { return 0; }
}

// The stream of events, opened again when it ends, until stop() is called. EventSource cannot send a token.
export function stream({ onEvent, onEnd }) {
  let stopped = false, abort = null, wait = 0, timer = 0, last = 0;
  async function open() {
    abort = new AbortController(); last = performance.now();
    let status = 0;
    try {
      const answer =
        await fetch('api/v1/events', { headers: headers({ accept: 'text/event-stream' }), signal: abort.signal });
      status = answer.status;
      if (answer.ok) {
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = '';
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          last = performance.now(); wait = 0;
          text += value;
          let at;
          while ((at = text.indexOf('\n\n')) >= 0) { frame(text.slice(0, at)); text = text.slice(at + 2); }
        }
      }
    } catch { /* told below */ }
    if (stopped) return;
    wait = Math.min(5, wait + 1);
    onEnd(status, wait);
    timer = setTimeout(open, wait * 1000);
  }
  function frame(text) {
    let kind = 'message', data = '';
    for (const line of text.split('\n')) {
      if (line.startsWith('event: ')) kind = line.slice(7);
      else if (line.startsWith('data: ')) data += line.slice(6);
    }
    let value;
    try { value = JSON.parse(data); } catch { return; }
    onEvent(kind, value);
  }
  // A stream without a snapshot for five seconds hangs.
  const watch = setInterval(() => { if (performance.now() - last > 5000) abort?.abort(); }, 1000);
  open();
  return {
    stop() { stopped = true; clearInterval(watch); clearTimeout(timer); abort?.abort(); },
  };
}
