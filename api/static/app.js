// The tip page: asks for one tip, shows it, takes the answer.

import { Trouble, identity, react, recall, recommend, remember, sendKept } from './calls.js';
import { swipe } from './swipe.js';

const $ = (id) => document.getElementById(id);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const stillness = matchMedia('(prefers-reduced-motion: reduce)');

const REACTIONS = {
  accept: { reaction: 'accepted', x: 1, y: 0 },
  dismiss: { reaction: 'dismissed', x: -1, y: 0 },
  snooze: { reaction: 'snoozed', x: 0, y: -1 },
};
const SWIPES = { right: 'accept', left: 'dismiss', up: 'snooze' };
const KEYS = {
  Enter: 'accept', ArrowRight: 'accept', Delete: 'dismiss', ArrowLeft: 'dismiss', s: 'snooze', S: 'snooze', ArrowUp: 'snooze',
};
// After silence the page looks again by itself, less and less often, and never while nobody sees it.
const LOOK_AGAIN_SECONDS = [60, 120, 300, 600];

const me = identity();
let shown = null; // the recommendation on the page
let busy = false; // an answer is under way: a second key or tap must not answer the next tip
let timer = null;
let silences = 0;

function view(name, { focus } = {}) {
  for (const section of document.querySelectorAll('.view')) section.hidden = section.id !== name;
  $('main').dataset.view = name;
  $('main').setAttribute('aria-busy', String(name === 'loading'));
  if (focus) $(focus).focus({ preventScroll: true });
}

/** Tells people who listen instead of looking. */
function announce(text) {
  $('announce').textContent = '';
  requestAnimationFrame(() => { $('announce').textContent = text; });
}

function note(text) {
  $('note').textContent = text;
  $('note').hidden = !text;
}

function greeting() {
  const hour = new Date().getHours();
  const part = hour < 5 ? 'night' : hour < 12 ? 'morning' : hour < 18 ? 'afternoon' : 'evening';
  return part === 'night' ? 'In the quiet of the night' : `Good ${part}`;
}

/** A card taller than the screen scrolls, so upwards is no longer an answer; the button still is. */
function measure() {
  $('card').classList.toggle('tall', document.body.offsetHeight > innerHeight + 1);
}

function showTip(recommendation) {
  shown = recommendation;
  const { title, body, action, why } = recommendation.tip;
  $('greeting').textContent = greeting();
  $('title').textContent = title;
  $('body').textContent = body;
  $('action').textContent = action || 'I’ll do it';
  $('why-text').textContent = why ?? '';
  $('why').hidden = !why;
  const card = $('card');
  card.classList.remove('leaving');
  card.style.removeProperty('--drag-x');
  card.style.removeProperty('--drag-y');
  view('tip', { focus: 'card' });
  measure();
  announce(['New tip.', title, body, why && `Why now: ${why}`].filter(Boolean).join(' '));
}

function showSilence() {
  view('silence', { focus: 'silence-title' });
  announce('Nothing right now. No tip would help at this moment.');
  lookAgainIn(LOOK_AGAIN_SECONDS[Math.min(silences, LOOK_AGAIN_SECONDS.length - 1)]);
  silences += 1;
}

function showTrouble(trouble) {
  if (trouble.kind === 'key') return showWelcome(trouble);
  const [title, text] = {
    offline: navigator.onLine
      ? ['Kairos does not answer.', 'It may be starting. This page tries again by itself.']
      : ['You seem to be offline.', 'Your tip comes when the connection is back.'],
    scope: ['This key opens another door.', trouble.message],
    busy: ['A little too fast.', 'Kairos asks for a short break between questions.'],
    server: ['Kairos is not ready.', `${trouble.message} It will try again by itself.`],
    refused: ['That did not work.', trouble.message],
  }[trouble.kind];
  $('trouble-title').textContent = title;
  $('trouble-text').textContent = text;
  view('trouble', { focus: 'trouble-title' });
  announce(`${title} ${text}`);
  if (['offline', 'busy', 'server'].includes(trouble.kind)) lookAgainIn(trouble.seconds ?? 15);
}

function showWelcome(trouble) {
  $('welcome-text').textContent = trouble
    ? 'Kairos needs a key here. It stands at the end of the link you were given, after “#key=”.'
    : 'Kairos has one tip for one person. What name does it know you by?';
  $('welcome-title').textContent = trouble ? 'May I see your key?' : 'Hello.';
  $('welcome-problem').textContent = trouble && me.key ? 'The key this device remembers is not accepted.' : '';
  $('user').value = me.user;
  $('user-field').hidden = Boolean(trouble && me.user);
  $('key-field').hidden = !trouble;
  view('welcome', { focus: trouble && me.user ? 'key' : 'user' });
}

function lookAgainIn(seconds) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (document.visibilityState === 'visible') next();
    else document.addEventListener('visibilitychange', () => next(), { once: true });
  }, seconds * 1000);
}

/** Asks for the next tip and shows what came. */
async function next() {
  clearTimeout(timer);
  shown = null;
  $('who').textContent = me.user ? `for ${me.user}` : '';
  $('who').setAttribute('aria-label', `This page is for ${me.user}. Change the name`);
  $('who').hidden = !me.user;
  if (!me.user) return showWelcome();
  view('loading');
  try {
    await sendKept(me);
    note('');
    const recommendation = await recommend(me);
    if (!recommendation) return showSilence();
    silences = 0;
    showTip(recommendation);
  } catch (trouble) {
    if (!(trouble instanceof Trouble)) throw trouble;
    showTrouble(trouble);
  }
}

async function answer(choice) {
  if (busy || !shown) return;
  busy = true;
  const { reaction, x, y } = REACTIONS[choice];
  const { impression } = shown;
  shown = { impression };
  try {
    const card = $('card');
    if (!stillness.matches) {
      card.style.setProperty('--drag-x', `${x * Math.min(innerWidth, 520)}px`);
      card.style.setProperty('--drag-y', `${y * 240}px`);
    }
    card.classList.add('leaving');
    const [arrived] = await Promise.all([react(me, impression, reaction), pause(stillness.matches ? 0 : 260)]);
    note(arrived ? '' : 'Your answer is kept on this device and will be sent when Kairos can be reached.');
    if (choice === 'dismiss') await next();
    else showAfter(choice);
  } catch (trouble) {
    if (!(trouble instanceof Trouble)) throw trouble;
    showTrouble(trouble);
  } finally {
    busy = false;
  }
}

function showAfter(choice) {
  const [title, text] = {
    accept: ['One thing at a time.', 'Good choice. Say when it is done: Kairos learns from it.'],
    snooze: ['Later, then.', 'There will be a better moment for it.'],
    done: ['Well done.', 'That is enough for now, unless you want more.'],
  }[choice];
  $('after-title').textContent = title;
  $('after-text').textContent = text;
  $('done').hidden = choice !== 'accept';
  $('another').classList.toggle('primary', choice === 'snooze');
  view('after', { focus: 'after-title' });
  announce(`${title} ${text}`);
}

async function done() {
  if (busy) return;
  busy = true;
  try {
    const arrived = await react(me, shown.impression, 'done');
    note(arrived ? '' : 'Your answer is kept on this device and will be sent when Kairos can be reached.');
    showAfter('done');
  } catch (trouble) {
    if (!(trouble instanceof Trouble)) throw trouble;
    showTrouble(trouble);
  } finally {
    busy = false;
  }
}

function welcome(event) {
  event.preventDefault();
  const user = $('user').value.trim();
  const key = $('key').value.trim();
  if (!user) {
    $('welcome-problem').textContent = 'A name is needed, such as “ada”.';
    return $('user').focus();
  }
  if (user !== me.user) history.replaceState(null, '', location.pathname);
  me.user = user;
  remember('user', user);
  if (!$('key-field').hidden) {
    me.key = key;
    remember('key', key);
    $('key').value = '';
  }
  next();
}

for (const choice of Object.keys(REACTIONS)) $(choice).addEventListener('click', () => answer(choice));
$('done').addEventListener('click', done);
for (const id of ['another', 'again', 'retry']) $(id).addEventListener('click', () => next());
$('who').addEventListener('click', () => { clearTimeout(timer); shown = null; showWelcome(); });
$('welcome-form').addEventListener('submit', welcome);

swipe($('card'), {
  lean(direction, share) {
    $('leaning').textContent = direction ? $(SWIPES[direction]).textContent.trim() : '';
    $('leaning').style.opacity = direction ? share : 0;
  },
  decide: (direction) => answer(SWIPES[direction]),
});

document.addEventListener('keydown', (event) => {
  if ($('main').dataset.view !== 'tip' || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  const choice = KEYS[event.key];
  if (!choice || (event.key === 'Enter' && event.target.closest('button, a, input'))) return;
  event.preventDefault();
  answer(choice);
});

window.addEventListener('resize', measure);
window.addEventListener('online', () => {
  if ($('main').dataset.view === 'trouble') next();
  else sendKept(me).then(() => { if (!recall('unsent')) note(''); });
});

if ('serviceWorker' in navigator && isSecureContext) {
  navigator.serviceWorker.register('/assets/sw.js', { scope: '/' }).catch(() => { /* the page works without it */ });
}
next();
