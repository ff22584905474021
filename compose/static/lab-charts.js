// Charts on the vendored uPlot (a global of its script): colours from the page's style, sizes from their boxes.
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const FONT = '12px system-ui, sans-serif';
const charts = new Set();

// How each line looks. Everything that is drawn of one policy has its colour and its dash.
export const STYLES = {
  incumbent: { width: 2.5 },
  shadow: { width: 2, dash: [9, 4] },
  uniform: { width: 2, dash: [2, 4] },
  best: { width: 1.5, dash: [5, 5], colour: 'best' },
  truth: { width: 1.5, dash: [5, 5], colour: 'best' },
};
const colour = (key) => () => css(`--${STYLES[key].colour ?? key}`);

function axis(rest) {
  return {
    stroke: () => css('--faint'), font: FONT, labelFont: FONT, labelSize: 18, labelGap: 0, gap: 6, ticks: { show: false },
    grid: { stroke: () => css('--grid'), width: 1 }, ...rest,
  };
}

function make(box, options, data) {
  const size = () => ({ width: Math.max(40, box.clientWidth), height: Math.max(30, box.clientHeight) });
  const chart = new uPlot({ legend: { show: false }, ...size(), ...options }, data, box);
  new ResizeObserver(() => chart.setSize(size())).observe(box);
  charts.add(chart);
  return chart;
}
matchMedia('(prefers-color-scheme: light)').addEventListener('change', () => {
  for (const chart of charts) chart.redraw(false);
});

function line(key) {
  return { label: key, stroke: colour(key), width: STYLES[key].width, dash: STYLES[key].dash, points: { show: false } };
}

/// Lines over the number of tips. `hovered` is told the index under the pointer, or null.
export function lineChart(box, keys, format, hovered) {
  return make(box, {
    padding: [8, 14, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, sync: { key: 'tips' }, points: { size: 7 } },
    scales: { x: { time: false }, y: { range: (_, __, top) => [0, top > 0 ? top * 1.08 : 1] } },
    axes: [
      axis({ size: 26, space: 70, label: 'tips decided', values: (_, ticks) => ticks.map((n) => n.toLocaleString('en')) }),
      axis({ size: 48, space: 38, values: (_, ticks) => ticks.map(format) }),
    ],
    series: [{}, ...keys.map(line)],
    hooks: { setCursor: [(chart) => hovered(chart.cursor.idx ?? null)] },
  }, [[0], ...keys.map(() => [null])]);
}

/// A small one without axes, all of them over the same range of rewards.
export function sparkLine(box, keys, top) {
  return make(box, {
    padding: [2, 2, 2, 2],
    cursor: { show: false },
    scales: { x: { time: false }, y: { range: () => [0, top()] } },
    axes: [
      axis({ show: false }),
      axis({ size: 0, gap: 0, splits: () => [0, 0.25, 0.5, 0.75, 1].filter((v) => v <= top()), values: () => [] }),
    ],
    series: [{}, ...keys.map(line)],
  }, [[0], ...keys.map(() => [null])]);
}

/// Bars side by side for each of the named bins.
export function barChart(box, keys, names) {
  const share = 0.84 / keys.length;
  const place = (at) => uPlot.paths.bars({
    disp: {
      x0: { unit: 1, values: (chart) => chart.data[0].map((bin) => bin - 0.42 + at * share) },
      size: { unit: 1, values: (chart) => chart.data[0].map(() => share * 0.92) },
    },
  });
  const bar = (key, at) => ({ label: key, stroke: colour(key), fill: colour(key), width: 0, paths: place(at), points: { show: false } });
  return make(box, {
    padding: [8, 4, 0, 0],
    cursor: { show: false },
    scales: { x: { time: false, range: [-0.5, names.length - 0.5] }, y: { range: (_, __, top) => [0, Math.min(1, Math.max(0.2, top * 1.08))] } },
    axes: [
      axis({ size: 26, label: 'up to … %', grid: { show: false }, splits: () => names.map((_, i) => i), values: () => names }),
      axis({ size: 44, space: 38, values: (_, ticks) => ticks.map((v) => `${Math.round(100 * v)} %`) }),
    ],
    series: [{}, ...keys.map(bar)],
  }, [names.map((_, i) => i), ...keys.map(() => names.map(() => 0))]);
}
