'use strict';
// Draws the report from the figures in the page; nothing is loaded from elsewhere.
const report = JSON.parse(document.getElementById('data').textContent);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const FONT = '12px system-ui, sans-serif';
const TITLES = {
  ips: 'IPS', clipped_ips: 'clipped IPS', snips: 'SNIPS', dm: 'direct', dr: 'DR', sndr: 'SNDR', switch_dr: 'switch-DR',
};
const INTERVALS = ['bootstrap', 'normal', 'bernstein'];
const charts = [];

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}
const number = (value, digits = 4) => (value == null ? 'none' : value.toFixed(digits));
const span = (interval) => (interval ? `${number(interval.low)} to ${number(interval.high)}` : 'none');
const percent = (share) => `${(share * 100).toFixed(1)} %`;

function axis(rest) {
  return { stroke: () => css('--soft'), font: FONT, labelFont: FONT, labelSize: 18, grid: { stroke: () => css('--grid'), width: 1 }, ticks: { show: false }, ...rest };
}

function make(box, options, data) {
  const size = () => ({ width: Math.max(60, box.clientWidth), height: Math.max(60, box.clientHeight) });
  const chart = new uPlot({ legend: { show: false }, cursor: { show: false }, ...size(), ...options }, data, box);
  new ResizeObserver(() => chart.setSize(size())).observe(box);
  charts.push(chart);
}
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => charts.forEach((chart) => chart.redraw(false)));

// An upright bar for each interval of each estimator, its value as a dot, what was earned as a line across.
function intervals(box, judgement) {
  const { estimates, diagnostics } = judgement;
  const ends = estimates.flatMap((e) => [e.value, ...INTERVALS.slice(0, 2).flatMap((i) => (e[i] ? [e[i].low, e[i].high] : []))]);
  ends.push(diagnostics.mean_reward);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const room = 0.35 * (high - low) || 0.1;
  const draw = (chart) => {
    const { ctx, bbox } = chart;
    const y = (value) => chart.valToPos(value, 'y', true);
    const wide = uPlot.pxRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    const across = (value, from, to) => {
      ctx.beginPath();
      ctx.moveTo(from, y(value));
      ctx.lineTo(to, y(value));
      ctx.stroke();
    };
    ctx.lineWidth = wide;
    ctx.strokeStyle = css('--logged');
    ctx.setLineDash([5 * wide, 5 * wide]);
    across(diagnostics.mean_reward, bbox.left, bbox.left + bbox.width);
    ctx.setLineDash([]);
    estimates.forEach((estimate, place) => {
      INTERVALS.forEach((kind, beside) => {
        if (!estimate[kind]) return;
        const x = chart.valToPos(place + (beside - 1) * 0.2, 'x', true);
        ctx.strokeStyle = css(`--${kind}`);
        ctx.fillStyle = css(`--${kind}`);
        ctx.lineWidth = 2 * wide;
        ctx.beginPath();
        ctx.moveTo(x, y(estimate[kind].low));
        ctx.lineTo(x, y(estimate[kind].high));
        ctx.stroke();
        [estimate[kind].low, estimate[kind].high].forEach((end) => across(end, x - 4 * wide, x + 4 * wide));
        ctx.beginPath();
        ctx.arc(x, y(estimate.value), 3.5 * wide, 0, 2 * Math.PI);
        ctx.fill();
      });
    });
    ctx.restore();
  };
  make(box, {
    scales: { x: { time: false, range: () => [-0.6, estimates.length - 0.4] }, y: { range: () => [low - room, high + room] } },
    axes: [
      axis({ splits: () => estimates.map((_, i) => i), values: () => estimates.map((e) => TITLES[e.estimator]), grid: { show: false } }),
      axis({ size: 58 }),
    ],
    series: [{}, { show: true, stroke: 'transparent', points: { show: false } }],
    hooks: { draw: [draw] },
  }, [estimates.map((_, i) => i), estimates.map((e) => e.value)]);
}

function histogram(box, { edges, counts }, label, value) {
  const places = edges.map((_, i) => i);
  make(box, {
    padding: [8, 8, 0, 0],
    scales: { x: { time: false, range: () => [-0.6, edges.length - 0.4] }, y: { range: (_, __, top) => [0, (top || 1) * 1.05] } },
    axes: [
      axis({ label, size: 40, space: 44, incrs: [1, 2, 4, 5, 10], values: (_, at) => at.map((i) => (Number.isInteger(i) && edges[i] !== undefined ? value(edges[i]) : '')), grid: { show: false } }),
      axis({ size: 64, label: 'rows' }),
    ],
    series: [{}, { stroke: () => css('--bootstrap'), fill: () => css('--bootstrap'), paths: uPlot.paths.bars({ size: [0.85, 60] }), points: { show: false } }],
  }, [places, counts]);
}

const LINES = { logged: '--logged', ips: '--bernstein', snips: '--bootstrap', dr: '--normal' };

function running(box, points) {
  const lines = Object.keys(LINES);
  // The first rows swing wildly; the scale is made by the rest.
  const settled = points.slice(Math.floor(points.length / 10)).flatMap((p) => lines.map((l) => p[l]).filter((v) => v != null));
  const [low, high] = [Math.min(...settled), Math.max(...settled)];
  const room = 0.15 * (high - low) || 0.1;
  make(box, {
    scales: { x: { time: false }, y: { range: () => [low - room, high + room] } },
    axes: [axis({ label: 'rows', size: 40 }), axis({ size: 58 })],
    series: [{}, ...lines.map((l) => ({ stroke: () => css(LINES[l]), width: 2, dash: l === 'logged' ? [5, 5] : undefined, points: { show: false } }))],
  }, [points.map((p) => p.rows), ...lines.map((l) => points.map((p) => p[l]))]);
}

function legend(keys) {
  const line = element('p', undefined, 'legend');
  for (const [name, colour] of keys) {
    const one = element('span');
    const key = element('i', undefined, 'key');
    key.style.background = `var(${colour})`;
    one.append(key, name);
    line.append(one);
  }
  return line;
}

function table(head, rows) {
  const box = element('div', undefined, 'scroll');
  const made = box.appendChild(element('table'));
  const top = made.createTHead().insertRow();
  head.forEach((name) => top.append(element('th', name)));
  const body = made.createTBody();
  rows.forEach((cells) => {
    const row = body.insertRow();
    cells.forEach((cell) => row.append(element('td', cell)));
  });
  return box;
}

function section({ title, judgement, charts: pictures }) {
  const box = document.getElementById('sections').appendChild(element('section'));
  const d = judgement.diagnostics;
  box.append(element('h2', title));
  d.warnings.forEach((warning) => box.append(element('p', warning.message, 'warning')));
  if (!judgement.estimates.length) return;
  const rows = judgement.estimates.map((e) => [
    TITLES[e.estimator], number(e.value), span(e.bootstrap), span(e.normal), span(e.bernstein), Math.round(e.effective_rows).toLocaleString('en'),
  ]);
  rows.push(['as logged', number(d.mean_reward), '', '', '', judgement.rows.toLocaleString('en')]);
  if (judgement.gain) rows.push(['DR less that', number(judgement.gain.value), span(judgement.gain.bootstrap), span(judgement.gain.normal), '', '']);
  box.append(table(['', 'value', '95 % bootstrap', '95 % normal', '95 % Bernstein', 'effective rows'], rows));
  const model = d.model_explains == null ? '' : `, reward model explains ${percent(d.model_explains)} of the variance`;
  box.append(element('p', `Support ${number(d.support)}, mean weight ${number(d.mean_weight)} (z ${number(d.mean_weight_z, 1)}), largest weight ${number(d.largest_weight, 2)} (${percent(d.largest_weight_share)} of all), smallest propensity ${d.smallest_propensity.toExponential(1)}, clipped ${d.clipped_rows} rows${model}.`));
  const grid = box.appendChild(element('div', undefined, 'charts'));
  const add = (name, keys, drawn) => {
    const one = grid.appendChild(element('div'));
    one.append(element('h3', name));
    if (keys) one.append(legend(keys));
    drawn(one.appendChild(element('div', undefined, 'chart')));
  };
  const kinds = INTERVALS.map((kind) => [kind === 'bernstein' ? 'Bernstein' : kind, `--${kind}`]);
  add('Estimates with their 95 % intervals', [...kinds, ['as logged', '--logged']], (at) => intervals(at, judgement));
  add('Estimates by the first rows', [['as logged', '--logged'], ['IPS', '--bernstein'], ['SNIPS', '--bootstrap'], ['DR', '--normal']], (at) => running(at, pictures.running));
  add('Weights', null, (at) => histogram(at, pictures.weights, 'weight, from', (edge) => String(+edge.toPrecision(2))));
  add('Propensities of the actions taken', null, (at) => histogram(at, pictures.propensities, 'propensity, from', (edge) => String(+edge.toFixed(3))));
  const strange = d.frequencies.filter((f) => Math.abs(f.z) > 3);
  if (strange.length) {
    box.append(element('h3', 'Actions taken more or less often than their propensities say'));
    box.append(table(['action', 'taken', 'expected', 'z'], strange.map((f) => [f.action, String(f.taken), number(f.expected, 1), number(f.z, 1)])));
  }
}

document.getElementById('about').textContent = report.about;
report.sections.forEach(section);
const first = report.sections.find((s) => s.judgement.estimates.length);
for (const e of first ? first.judgement.estimates : []) {
  document.getElementById('uncovered').append(element('dt', TITLES[e.estimator]), element('dd', e.not_covered));
}
