// Marks of the classes, and the scatter plot of training rows and the reader's row.

import { byId, element, shape } from "./dom.js";

// Five shapes and six colours: thirty classes.
const SHAPES = ["M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0", "M0-5L4.6 3.4H-4.6Z", "M-3.7-3.7H3.7V3.7H-3.7Z", "M0-5.2L4.6 0 0 5.2-4.6 0Z", "M0 5L4.6-3.4H-4.6Z"];
const INSET = { left: 44, right: 12, top: 12, bottom: 36 };

/** The mark of a class, by its index. */
export const mark = (index, more = {}) => shape("path", { d: SHAPES[index % SHAPES.length], class: `c${index % 6}`, ...more });

/** The two features that separate the classes best, by the variance within classes. */
function bestPair({ rows, classes }, features) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = (group, i) => mean(group.map((row) => (row[i] - mean(group.map((other) => other[i]))) ** 2));
  const groups = [...Map.groupBy(rows, (_, n) => classes[n]).values()];
  const within = features.map((_, i) => {
    const inside = groups.reduce((sum, group) => sum + group.length * variance(group, i), 0);
    return inside / variance(rows, i) || rows.length;
  });
  const best = within.map((_, i) => i).sort((a, b) => within[a] - within[b]);
  return best.slice(0, 2).sort((a, b) => a - b);
}

/** Draw the scatter plot. A click or drag calls `onPick` with two feature indices and two values. */
export function scatterPlot(card, domains, onPick) {
  const svg = byId("scatter");
  const axes = [byId("across"), byId("up")];
  const own = shape("g", { class: "own" }, shape("path"), shape("circle", { r: 7 }));
  let scales = [];
  let values = [];

  for (const [side, index] of bestPair(card.sample, card.features).entries()) {
    axes[side].append(...card.features.map(({ name }, i) => element("option", { value: i }, name)));
    axes[side].value = index;
    axes[side].addEventListener("change", draw);
  }

  function draw() {
    const { clientWidth: width, clientHeight: height } = svg;
    if (!width) return;
    const [x, y] = axes.map((axis) => Number(axis.value));
    const floor = height - INSET.bottom;
    scales = [scale(domains[x], INSET.left, width - INSET.right), scale(domains[y], floor, INSET.top)];
    const titles = [x, y].map((i) => card.features[i].name + (card.features[i].unit ? ` (${card.features[i].unit})` : ""));
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("aria-label", `${card.sample.rows.length} training rows by ${titles[0]} across and ${titles[1]} up, and the row of the sliders`);
    const grid = [
      ...ticks(domains[x], width / 80).flatMap((tick) => [
        shape("line", { x1: scales[0].to(tick), x2: scales[0].to(tick), y1: INSET.top, y2: floor }),
        shape("text", { x: scales[0].to(tick), y: floor + 20 }, tick),
      ]),
      ...ticks(domains[y], height / 50).flatMap((tick) => [
        shape("line", { x1: INSET.left, x2: width - INSET.right, y1: scales[1].to(tick), y2: scales[1].to(tick) }),
        shape("text", { x: INSET.left - 8, y: scales[1].to(tick) + 4, class: "left" }, tick),
      ]),
    ];
    const points = card.sample.rows.map((row, n) =>
      mark(card.sample.classes[n], { transform: `translate(${scales[0].to(row[x])} ${scales[1].to(row[y])})` }));
    svg.replaceChildren(...grid, shape("g", { class: "points" }, ...points), own);
    show(values);
  }

  function show(row) {
    values = row;
    const [x, y] = axes.map((axis, side) => (scales[side] && row.length ? scales[side].inside(row[axis.value] ?? 0) : 0));
    own.firstChild.setAttribute("d", `M${INSET.left} ${y}H${x}V${svg.clientHeight - INSET.bottom}`);
    own.lastChild.setAttribute("cx", x);
    own.lastChild.setAttribute("cy", y);
  }

  svg.addEventListener("pointermove", (event) => event.buttons && pick(event));
  svg.addEventListener("pointerdown", pick);
  function pick(event) {
    const box = svg.getBoundingClientRect();
    onPick(axes.map((axis) => Number(axis.value)), [scales[0].from(event.clientX - box.left), scales[1].from(event.clientY - box.top)]);
  }

  new ResizeObserver(draw).observe(svg);
  return { show };
}

function scale({ low, high }, start, end) {
  const to = (value) => start + ((value - low) / (high - low || 1)) * (end - start);
  const clamp = (value) => Math.min(Math.max(value, low), high);
  return { to, inside: (value) => to(clamp(value)), from: (pixel) => clamp(low + ((pixel - start) / (end - start)) * (high - low)) };
}

/** About `count` round values in a range, with equally many decimals. */
function ticks({ low, high }, count) {
  const rough = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const first = Math.ceil(low / step);
  const last = Math.floor(high / step + 1e-9);
  const digits = Math.min(Math.max(0, -Math.floor(Math.log10(step))), 9);
  const text = (value) => (Math.abs(value) < 1e6 ? value.toFixed(digits) : value.toPrecision(3));
  return Array.from({ length: last - first + 1 }, (_, i) => text((first + i) * step));
}
