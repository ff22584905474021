// Keeps the page itself at hand, so that it opens without a network and says so in words.
// Tips and answers are never kept here: every call under /v1 goes to the network alone.
const SHELL = 'kairos-shell-1';
const FILES = ['/', '/assets/app.js', '/assets/calls.js', '/assets/swipe.js', '/assets/style.css', '/assets/tip.css', '/assets/icon.svg',
  '/assets/manifest.webmanifest'];

self.addEventListener('install', (event) => {
  event.waitUntil(caches.open(SHELL).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});

self.addEventListener('activate', (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (name !== SHELL) await caches.delete(name);
    await self.clients.claim();
  })());
});

self.addEventListener('fetch', (event) => {
  const url = new URL(event.request.url);
  const name = url.pathname;
  if (event.request.method !== 'GET' || url.origin !== location.origin || !FILES.includes(name)) return;
  event.respondWith((async () => {
    try {
      const fresh = await fetch(event.request);
      if (fresh.ok) await (await caches.open(SHELL)).put(name, fresh.clone());
      return fresh;
    } catch (unreachable) {
      const kept = await caches.match(name);
      if (kept) return kept;
      throw unreachable;
    }
  })());
});
