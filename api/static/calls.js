// What the page remembers on this device, and its two calls. The key goes into one header of calls to this
// origin and nowhere else.

const REMEMBERED = { user: 'kairos.user', key: 'kairos.key', unsent: 'kairos.unsent' };

/** Something went wrong in a way the page can explain: `kind` is offline, key, scope, busy, refused or server. */
export class Trouble extends Error {
  constructor(kind, message, seconds) {
    super(message);
    this.kind = kind;
    this.seconds = seconds;
  }
}

export function recall(name) {
  try { return localStorage.getItem(REMEMBERED[name]) ?? ''; } catch { return ''; }
}

export function remember(name, value) {
  try {
    if (value) localStorage.setItem(REMEMBERED[name], value);
    else localStorage.removeItem(REMEMBERED[name]);
  } catch { /* private mode: the page still works until it is closed */ }
}

/** Who is asking, from the address or from an earlier visit. The key is taken out of the address bar at once. */
export function identity() {
  const query = new URLSearchParams(location.search);
  const fragment = new URLSearchParams(location.hash.slice(1));
  const key = fragment.get('key');
  const user = (fragment.get('user') ?? query.get('user') ?? '').trim();
  if (key) remember('key', key);
  if (user) remember('user', user);
  if (location.hash) history.replaceState(null, '', location.pathname + location.search);
  return { user: user || recall('user'), key: key || recall('key') };
}

async function call(path, body, key) {
  let answer;
  try {
    answer = await fetch(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(key && { authorization: `Bearer ${key}` }) },
      body: JSON.stringify(body),
      cache: 'no-store',
      credentials: 'omit',
      referrerPolicy: 'no-referrer',
      signal: AbortSignal.timeout?.(12_000),
    });
  } catch {
    throw new Trouble('offline', 'no answer');
  }
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  const seconds = Number(answer.headers.get('retry-after')) || undefined;
  const message = said?.error?.message ?? `The answer was ${answer.status}.`;
  const kind = { 401: 'key', 403: 'scope', 429: 'busy' }[answer.status] ?? (answer.status < 500 ? 'refused' : 'server');
  throw new Trouble(kind, message, seconds);
}

/** The next tip with its impression, or null when silence is better. */
export function recommend({ user, key }) {
  return call('/v1/recommend', { user, channel: 'web' }, key);
}

function unsent() {
  try { return JSON.parse(recall('unsent') || '[]'); } catch { return []; }
}

/**
 * Sends an answer. Without a connection it is kept and sent later; resolves to whether it arrived. It carries no
 * time of this device, whose clock may be wrong, so that sending it twice changes nothing.
 */
export async function react({ key }, impression, reaction) {
  const answer = { impression, reaction };
  try {
    await call('/v1/feedback', answer, key);
    return true;
  } catch (trouble) {
    if (!['offline', 'busy', 'server'].includes(trouble.kind)) throw trouble;
    remember('unsent', JSON.stringify([...unsent(), answer].slice(-50)));
    return false;
  }
}

/** Sends what was kept, oldest first. An answer the server refuses is dropped: sending it again cannot mend it. */
export async function sendKept({ key }) {
  for (const answer of unsent()) {
    try {
      await call('/v1/feedback', answer, key);
    } catch (trouble) {
      if (trouble.kind !== 'refused') return;
    }
    const others = unsent().filter((o) => o.impression !== answer.impression || o.reaction !== answer.reaction);
    remember('unsent', others.length ? JSON.stringify(others) : '');
  }
}
