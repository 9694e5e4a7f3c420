// What can be done with a whole site: its address, its dial, and the buttons of those who may act.

import { html } from './ui.js';
import { world } from './world.js';

export const siteHref = name => '#/sites/' + encodeURIComponent(name);

// The dial of a whole site, where one is set by hand.
export const siteDial = x => x.clusters.length ? Math.min(...x.clusters.map(c => c.site_dial_percent ?? 100)) : 100;

export function siteActs(x, act, cls = 'btn') {
  if (!world.token || world.cold || !x.clusters.length) return null;
  const go = verb => () => act({ verb, kind: 'sites', name: x.name }), by = siteDial(x);
  return html`<div class="acts">${by < 100
    ? html`<button class=${cls} type="button" onClick=${go('undrain')}>
      ${by ? 'Take dial back\u2026' : 'Undrain site\u2026'}</button>`
    : html`<button class=${cls} type="button" onClick=${go('drain')}>Drain site\u2026</button>`}
    <button class=${cls} type="button" onClick=${go('dial')}>Dial\u2026</button>
    ${cls === 'btn' ? html`<button class=${cls} type="button"
      onClick=${() => act({ operation: true, kind: 'drill', name: x.name })}>Drill\u2026</button>` : null}</div>`;
}
