// Keeps a page as the hub has it: when the hub tells of changes, the page is asked for again and the parts that differ are exchanged.
// Without this script pages load themselves again now and then.
'use strict';
(() => {
  const lost = document.getElementById('lost');
  let busy = false, again = false;

  // exchange puts new content into a part; what was typed, opened and focused in it stays.
  const exchange = (part, next) => {
    if (part.innerHTML === next.innerHTML) return;
    const key = e => e.id || (e.form ? e.form.getAttribute('action') : '') + ' ' + e.name;
    const typed = new Map(), open = new Set();
    for (const e of part.querySelectorAll('input:not([type=hidden])')) typed.set(key(e), e.value);
    for (const e of part.querySelectorAll('details[open]')) open.add(e.id);
    const focused = part.contains(document.activeElement) ? key(document.activeElement) : null;
    part.replaceChildren(...document.importNode(next, true).childNodes);
    for (const e of part.querySelectorAll('details')) e.open = open.has(e.id);
    for (const e of part.querySelectorAll('input:not([type=hidden]), button, summary, a')) {
      if (typed.has(key(e))) e.value = typed.get(key(e));
      if (focused && focused.trim() && key(e) === focused) e.focus();
    }
  };

  const look = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const r = await fetch(location.href, {credentials: 'same-origin'});
      if (r.redirected) { location.reload(); return; }
      if (!r.ok) throw new Error(r.status);
      const next = new DOMParser().parseFromString(await r.text(), 'text/html');
      for (const part of document.querySelectorAll('[data-live]')) {
        const n = next.getElementById(part.id);
        if (n) exchange(part, n);
      }
      lost.hidden = true;
    } catch (e) {
      lost.hidden = false;
    } finally {
      busy = false;
      if (again) { again = false; look(); }
    }
  };

  if (!document.querySelector('[data-live]')) return;
  const events = new EventSource('/events');
  events.addEventListener('look', look);
  events.addEventListener('open', look);
  events.addEventListener('error', () => { lost.hidden = false; });
  addEventListener('pagehide', () => events.close());
  addEventListener('pageshow', e => { if (e.persisted) location.reload(); });
})();
