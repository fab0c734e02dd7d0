// Inputs: for each feature a number field, and a slider over its training histogram.

import { byId, element, isolated, shape } from "./dom.js";

const MARGIN = 0.08; // Share of the training range on either side.
const STEPS = 20; // Fewest steps of a slider.

/** Create the inputs of a model. Each change calls `onChange`. */
export function inputs(card, onChange) {
  // The page without a key describes the bounds.
  const bounds = new Map([...byId("about").querySelectorAll("li")].map(({ firstChild, lastChild }) => [firstChild.textContent, lastChild.textContent]));
  const all = card.features.map((feature, i) => input(feature, bounds.get(feature.name), card.reference.features[i], card.sample?.rows.map((row) => row[i]), i));
  for (const each of all) {
    each.slider.addEventListener("input", () => onChange(each.set(each.slider.valueAsNumber)));
    each.field.addEventListener("input", () => onChange(each.follow()));
  }
  return {
    nodes: all.map((each) => each.node),
    domains: all.map((each) => each.domain),
    /** The row to send; null where a field has no number. */
    row: () => Object.fromEntries(all.map((each) => [each.name, each.value()])),
    /** The same with examples instead of null, and the features that have them. */
    complete: () => ({
      row: Object.fromEntries(all.map((each) => [each.name, each.value() ?? each.example])),
      empty: all.filter((each) => each.value() === null).map((each) => each.name),
    }),
    values: () => all.map((each) => each.value()),
    set: (i, value) => all[i].set(value),
    /** Characters of the longest number. */
    width: Math.max(...all.map((each) => each.width)),
    /** Show errors beside their fields; returns them. */
    showErrors: (errors) => all.map((each) => each.showError(errors.find((error) => error.field === each.name)?.message)).filter(Boolean),
  };
}

function input(feature, allowed, histogram, column, i) {
  const domain = range(feature, histogram, column);
  const digits = Math.max(0, -Math.floor(Math.log10(domain.step)));
  const id = `feature-${i}`;
  const description = [feature.description, allowed && `allowed: ${allowed}`].filter(Boolean).join(" · ");
  const hint = element("p", { class: "hint", id: `${id}-hint` }, description);
  const field = element("input", { id, type: "number", step: "any", inputmode: "decimal", "aria-describedby": hint.id });
  const slider = element("input", { type: "range", min: domain.low, max: domain.high, step: domain.step, "aria-label": `${feature.name}, slider` });
  const chart = histogramChart(histogram, domain);
  const label = element("label", { for: id }, isolated(feature.name));
  const unit = feature.unit ? [element("span", { class: "unit" }, feature.unit)] : [];
  const ends = [domain.low, domain.high].map((end) => element("span", {}, end));
  const track = element("div", { class: "track" }, chart.node, slider, element("div", { class: "ends", "aria-hidden": "true" }, ...ends));
  const node = element("div", { class: "feature" }, element("div", { class: "named" }, label, ...unit, field), track, hint);
  const one = {
    name: feature.name, example: feature.example, node, domain, field, slider,
    width: Math.max(...[feature.example, domain.low, domain.high].map((value) => String(value).length)),
    value: () => (Number.isFinite(field.valueAsNumber) ? field.valueAsNumber : null),
    follow() {
      if (one.value() === null) return;
      slider.value = one.value();
      chart.mark(one.value());
    },
    set(value) {
      field.value = Number(value.toFixed(digits));
      one.follow();
    },
    showError(message) {
      hint.style.minHeight = message ? hint.style.minHeight || `${hint.getBoundingClientRect().height}px` : ""; // Nothing below moves.
      hint.textContent = message ?? description;
      hint.classList.toggle("problem", Boolean(message));
      field.setAttribute("aria-invalid", Boolean(message));
      return message && `${feature.name}: ${message}`;
    },
  };
  field.value = feature.example;
  one.follow();
  return one;
}

/** Range of a slider: the training rows and a margin, within the bounds, in round steps. */
function range(feature, { edges }, column) {
  const gap = edges.length > 1 ? (edges.at(-1) - edges[0]) / (edges.length - 1) : Math.abs(edges[0] ?? feature.example) || 1;
  let [from, to] = column ? [Math.min(...column), Math.max(...column)] : [edges[0] - gap, edges.at(-1) + gap];
  if (!(from < edges[0])) from = (edges[0] ?? feature.example) - gap;
  if (!(to > edges.at(-1))) to = (edges.at(-1) ?? feature.example) + gap;
  from = Math.max(from, feature.minimum);
  to = Math.min(to, feature.maximum);
  const margin = MARGIN * (to - from);
  const least = Math.max(Math.min(from - margin, feature.example), feature.minimum);
  const most = Math.min(Math.max(to + margin, feature.example), feature.maximum);
  const fine = 10 ** Math.floor(Math.log10((most - least) / STEPS || 1));
  const step = feature.type === "int" ? Math.max(1, Math.round(fine)) : fine;
  const round = (value) => Number((value * step).toPrecision(12));
  return { from, to, step, low: round(Math.floor(least / step)), high: round(Math.ceil(most / step)) };
}

/** A histogram. The height of a bar is rows per unit, because bins differ in width. */
function histogramChart({ edges, counts }, { from, to, low, high }) {
  const place = (value) => (100 * (value - low)) / (high - low || 1);
  const ends = [from, ...edges, to];
  const width = counts.map((_, i) => Math.max(place(ends[i + 1]) - place(ends[i]), 0.1));
  const most = Math.max(...counts.map((count, i) => count / width[i])) || 1;
  const description = counts.map((count, i) => `${count} ${i ? `from ${edges[i - 1]}` : ""} ${i < edges.length ? `below ${edges[i]}` : ""}`);
  const bars = counts.map((count, i) => {
    const height = (100 * count) / width[i] / most;
    return shape("rect", { x: place(ends[i]), width: width[i], y: 100 - height, height });
  });
  const line = shape("line", { y1: 0, y2: 100 });
  const node = shape("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": `Training rows: ${description.join(", ")}` }, ...bars, line);
  return {
    node,
    mark(value) {
      const x = Math.min(Math.max(place(value), 0), 100);
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      const bin = edges.filter((edge) => edge <= value).length;
      bars.forEach((bar, i) => bar.classList.toggle("here", i === bin));
    },
  };
}
