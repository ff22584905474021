// Asks for the figures each second and draws them. The features of a person come from the public API.
const $ = (id) => document.getElementById(id);
const percent = (x) => (x === null ? '–' : `${(100 * x).toFixed(0)} %`);
const band = (s) => (s.rate === null ? 'no tips yet' : `${percent(s.low)} to ${percent(s.high)}, ${s.taken} of ${s.shown}`);
const SVG = 'http://www.w3.org/2000/svg';
const BOX = { left: 44, right: 948, top: 12, bottom: 268 };
const LIST_EVERY_MS = 1000;

let features = null;
let before = new Map();

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Each point of the line sums up its neighbours too, counts and all, so that the band fits the line.
function smoothed(points, arm) {
  const reach = 2;
  return points.map((point, i) => {
    let shown = 0, taken = 0;
    for (const near of points.slice(Math.max(0, i - reach), i + reach + 1)) {
      shown += near[arm].shown;
      taken += near[arm].taken;
    }
    if (shown === 0) return null;
    const z = 1.96, p = taken / shown, zz = z * z / shown;
    const middle = (p + zz / 2) / (1 + zz);
    const half = z / (1 + zz) * Math.sqrt(p * (1 - p) / shown + zz / (4 * shown));
    return { at: point.seconds, rate: p, low: middle - half, high: middle + half };
  }).filter((p) => p !== null);
}

function draw(points) {
  const curve = $('curve');
  const parts = [];
  const [first, last] = [points[0]?.seconds ?? 0, points.at(-1)?.seconds ?? 1];
  const arms = ['uniform', 'bandit'].map((arm) => [arm, smoothed(points, arm)]);
  const top = Math.max(0.5, ...arms.flatMap(([, line]) => line.map((p) => p.high)));
  const x = (t) => BOX.left + (BOX.right - BOX.left) * (t - first) / Math.max(1, last - first);
  const y = (r) => BOX.bottom - (BOX.bottom - BOX.top) * r / top;
  for (let r = 0; r <= top; r += 0.1) {
    parts.push(element('line', { class: 'grid', x1: BOX.left, x2: BOX.right, y1: y(r), y2: y(r) }));
    parts.push(element('text', { x: BOX.left - 8, y: y(r) + 4, 'text-anchor': 'end' }, percent(r)));
  }
  const step = Math.max(10, Math.ceil((last - first) / 80) * 10);
  for (let t = Math.ceil(first / step) * step; t <= last; t += step) {
    parts.push(element('text', { x: x(t), y: BOX.bottom + 20, 'text-anchor': 'middle' }, `${t} s`));
  }
  for (const [arm, line] of arms) {
    if (line.length < 2) continue;
    const there = line.map((p) => `${x(p.at).toFixed(1)},${y(p.high).toFixed(1)}`);
    const back = line.map((p) => `${x(p.at).toFixed(1)},${y(p.low).toFixed(1)}`).reverse();
    parts.push(element('polygon', { class: `band ${arm}`, points: [...there, ...back].join(' ') }));
  }
  for (const [arm, line] of arms) {
    const along = line.map((p) => `${x(p.at).toFixed(1)},${y(p.rate).toFixed(1)}`);
    parts.push(element('polyline', { class: `line ${arm}`, points: along.join(' ') }));
  }
  curve.replaceChildren(...parts);
}

function row(cells) {
  const made = document.createElement('tr');
  for (const [text, className] of cells) {
    const cell = made.insertCell();
    cell.textContent = text;
    if (className) cell.className = className;
  }
  return made;
}

function showCategories(categories) {
  const sorted = [...categories].sort((a, b) => b.bandit_part - a.bandit_part);
  $('categories').replaceChildren(...sorted.map((c) => row([
    [c.name],
    [percent(c.bandit_part), c.bandit_part > 1.25 * c.uniform_part ? 'more' : ''],
    [percent(c.uniform_part)],
    [percent(c.bandit.rate)],
    [percent(c.uniform.rate)],
  ])));
}

function showLatest(latest) {
  $('latest').replaceChildren(...latest.map((tip) => {
    const item = document.createElement('li');
    const title = document.createElement('span');
    title.textContent = tip.title;
    const what = document.createElement('span');
    const taken = tip.reaction === 'accepted' || tip.reaction === 'done';
    what.className = taken ? 'taken' : 'refused';
    what.textContent = tip.reaction ?? 'no reaction';
    const who = document.createElement('small');
    const by = tip.arm === 'bandit' ? `the policy, p = ${tip.propensity.toFixed(2)}` : 'random';
    who.textContent = `${tip.user} · ${tip.category} · ${by}`;
    item.append(title, what, who);
    return item;
  }));
}

function showPeople(people) {
  const pick = $('person');
  if (pick.options.length > 0) return;
  pick.append(...people.map((name) => new Option(name, name)));
}

async function getJson(path, body) {
  const answer = await fetch(path, body && {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return answer.json();
}

async function showFeatures() {
  const user = $('person').value;
  if (!user) return;
  $('be').href = `/?user=${encodeURIComponent(user)}`;
  if (features === null) {
    const registry = await getJson('/v1/features');
    const views = Array.isArray(registry) ? registry : registry.views;
    features = views.flatMap((v) => v.features.map((f) => f.name));
  }
  const { rows: [one] } = await getJson('/v1/features/read', { entities: [user], features });
  const now = new Map(Object.entries(one.values).filter(([, value]) => value !== null && value !== 0));
  const shown = [];
  for (const [name, value] of now) {
    const term = document.createElement('dt');
    term.textContent = name;
    const detail = document.createElement('dd');
    detail.textContent = typeof value === 'number' && !Number.isInteger(value) ? value.toFixed(2) : String(value);
    if (before.has(name) && before.get(name) !== value) detail.className = 'changed';
    shown.push(term, detail);
  }
  before = now;
  $('features').replaceChildren(...shown);
}

function showState(state) {
  const { recent, total } = state.figures;
  $('clock').textContent = `${new Date(state.now).toUTCString().slice(0, 22)} UTC, in the simulation`;
  $('bandit-rate').textContent = percent(recent.bandit.rate);
  $('bandit-band').textContent = band(recent.bandit);
  $('uniform-rate').textContent = percent(recent.uniform.rate);
  $('uniform-band').textContent = band(recent.uniform);
  const lift = recent.bandit.rate !== null && recent.uniform.rate ? recent.bandit.rate / recent.uniform.rate : null;
  $('lift').textContent = lift === null ? '–' : `${lift.toFixed(2)} ×`;
  $('total').textContent = `${total.bandit.shown + total.uniform.shown} tips since the start`;
  $('what').textContent = state.what;
  draw(state.figures.curve);
  showCategories(state.figures.categories);
  showLatest(state.figures.latest);
  showPeople(state.people);
}

async function look() {
  try {
    showState(await getJson('/demo/state'));
    await showFeatures();
    $('trouble').hidden = true;
  } catch (error) {
    $('trouble').textContent = `The demo does not answer (${error.message}).`;
    $('trouble').hidden = false;
  }
  setTimeout(look, LIST_EVERY_MS);
}

$('person').addEventListener('change', () => { before = new Map(); showFeatures().catch(() => {}); });
look();
