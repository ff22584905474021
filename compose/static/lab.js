// Asks for the figures each second, says what they mean, and draws them.
import { STYLES, barChart, lineChart, sparkLine } from '/lab/charts.js';

const $ = (id) => document.getElementById(id);
const EVERY_MS = 1000;
// Tips over which a rolling mean is taken, and how many there must be before anything is said.
const WINDOW = 1000;
const ENOUGH = 50;
const NAMES = { incumbent: 'policy', shadow: 'shadow', uniform: 'uniform', best: 'best', truth: 'truth' };

const count = (n) => (n === null || n === undefined ? '–' : Math.round(n).toLocaleString('en'));
const reward = (x) => (x === null || x === undefined ? '–' : x.toFixed(2));
const percent = (x) => `${Math.round(100 * x)} %`;

// The mean over the last WINDOW tips at each point, from sums over all tips.
function rolling(tips, sums) {
  let from = 0;
  return sums.map((sum, i) => {
    while (tips[i] - tips[from + 1] >= WINDOW) from += 1;
    const many = tips[i] - tips[from];
    return many > 0 && sum !== null ? (sum - sums[from]) / many : null;
  });
}

function swatch(key, solid) {
  const { width, dash } = STYLES[key];
  if (solid) return `<svg class="box" viewBox="0 0 12 12" aria-hidden="true"><rect class="${key}" width="12" height="12"/></svg>`;
  return `<svg viewBox="0 0 28 12" aria-hidden="true"><line class="${key}" x1="0" x2="28" y1="6" y2="6"
    stroke-width="${width}" stroke-dasharray="${dash ?? ''}"/></svg>`;
}

// One entry for each line, with room for its value; returns what fills in the values.
function legend(section, keys, solid) {
  const list = $(section).querySelector('.legend');
  const values = keys.map((key) => {
    const item = document.createElement('li');
    item.innerHTML = swatch(key, solid);
    const value = document.createElement('b');
    item.append(NAMES[key], ' ', value);
    list.append(item);
    return value;
  });
  return (texts) => texts.forEach((text, i) => { values[i].textContent = text; });
}

// A chart of lines whose legend shows the values under the pointer, or else the latest.
function linesWithLegend(section, keys, format) {
  const fill = legend(section, keys);
  const box = $(section).querySelector('.chart');
  const title = $(`${section}-title`).textContent;
  let columns = null;
  let at = null;
  const show = () => {
    if (columns === null) return;
    const texts = columns.map((column) => format(column[at ?? column.length - 1]));
    fill(texts);
    box.ariaLabel = `${title}: ${keys.map((key, i) => `${NAMES[key]} ${texts[i]}`).join(', ')}`;
  };
  const chart = lineChart(box, keys, format, (index) => { at = index; show(); });
  return (tips, next) => {
    columns = next;
    chart.setData([tips, ...next]);
    show();
  };
}

function categoryCharts(categories, keys) {
  legend('learned', keys);
  let top = 0.5;
  const made = categories.map(({ name }) => {
    const box = document.createElement('div');
    box.className = 'category';
    box.innerHTML = '<h3><span></span></h3><div class="chart" role="img"></div>';
    box.querySelector('h3').prepend(name);
    document.querySelector('.categories').append(box);
    return { number: box.querySelector('span'), box: box.lastChild, chart: sparkLine(box.lastChild, keys, () => top) };
  });
  return (tips, next) => {
    top = Math.max(0.5, ...next.flatMap((c) => keys.map((key) => c[key].at(-1) ?? 0))) * 1.05;
    next.forEach((category, i) => {
      const [held, truth] = [category.incumbent.at(-1), category.truth.at(-1)];
      made[i].chart.setData([tips, ...keys.map((key) => category[key])]);
      made[i].number.textContent = `${reward(held)} / ${reward(truth)}`;
      made[i].box.ariaLabel = `${category.name}: expected ${reward(held)}, true mean ${reward(truth)}`;
    });
  };
}

function histogram(bins, keys) {
  const fill = legend('propensities', keys, true);
  const box = $('propensities').querySelector('.chart');
  const names = bins.ends.map((end) => `${+(100 * end).toFixed(1)}`);
  const chart = barChart(box, keys, names);
  return (next) => {
    chart.setData([names.map((_, i) => i), ...keys.map((key) => next[key])]);
    const usual = keys.map((key) => {
      const bin = next[key].indexOf(Math.max(...next[key]));
      return `${bin === 0 ? 'up to' : `${names[bin - 1]} to`} ${names[bin]} %`;
    });
    fill(keys.map(() => ''));
    $('propensities-what').textContent = `Latest ${count(next.of)} tips, by the probability of drawing each.`;
    box.ariaLabel = `How sure the choices are: ${keys.map((key, i) => `${NAMES[key]} mostly ${usual[i]}`).join(', ')}`;
  };
}

function say(data, rewards) {
  if (data.tips < ENOUGH) return;
  const [best, mine, uniform] = ['best', 'incumbent', 'uniform'].map((key) => rewards[key].at(-1));
  const { incumbent, shadow } = data.policies;
  const gained = (mine - uniform) / (best - uniform);
  const over = Math.min(WINDOW, data.tips);
  $('headline').textContent = gained >= 0.02
    ? `The policy takes ${percent(gained)} of what there is to gain over a uniform choice.`
    : 'The policy does not do better than a uniform choice yet.';
  const words = [
    `Over the last ${count(over)} of ${count(data.tips)} tips the policy in charge (`, incumbent.name, ') earned ',
    reward(mine), ' a tip. In the very same moments a uniform choice would have earned ', reward(uniform),
    ' and the best choice ', reward(best), '.',
  ];
  const theirs = shadow ? rewards.shadow.at(-1) : null;
  if (theirs !== null) {
    const lead = theirs - mine;
    const standing = Math.abs(lead) < 0.005 ? 'as much' : `${reward(Math.abs(lead))} ${lead > 0 ? 'more' : 'less'}`;
    words.splice(-1, 1, '. The shadow (', shadow.name, '), never shown, would have earned ', reward(theirs), `: ${standing}.`);
  }
  $('sentence').replaceChildren(...words.map((word, i) => {
    if (i % 2 === 0) return word;
    const bold = document.createElement('b');
    bold.textContent = word;
    return bold;
  }));
}

let draw = null;

function prepare(data) {
  const policies = ['incumbent', 'shadow', 'uniform'].filter((key) => data.curve[key]);
  const drawReward = linesWithLegend('reward', ['best', ...policies], reward);
  const drawRegret = linesWithLegend('regret', policies, count);
  const learners = policies.filter((key) => key !== 'uniform');
  const drawLearned = categoryCharts(data.categories, ['truth', ...learners]);
  const drawSpread = histogram(data.propensities, policies);
  return (next) => {
    const { tips, best } = next.curve;
    const keys = ['best', ...policies];
    const rewards = Object.fromEntries(keys.map((key) => [key, rolling(tips, next.curve[key])]));
    drawReward(tips, keys.map((key) => rewards[key]));
    drawRegret(tips, policies.map((key) => next.curve[key].map((sum, i) => (sum === null ? null : best[i] - sum))));
    drawLearned(tips, next.categories);
    drawSpread(next.propensities);
    $('reward-what').textContent = `Mean over the last ${count(WINDOW)} tips; 1 is a tip surely taken up.`;
    say(next, rewards);
  };
}

async function look() {
  try {
    const answer = await fetch('/lab/data');
    if (!answer.ok) throw new Error(`/lab/data answered ${answer.status}`);
    const data = await answer.json();
    draw ??= prepare(data);
    draw(data);
    $('trouble').hidden = true;
  } catch (error) {
    $('trouble').textContent = `The demo does not answer (${error.message}).`;
    $('trouble').hidden = false;
  }
  setTimeout(look, EVERY_MS);
}

look();
