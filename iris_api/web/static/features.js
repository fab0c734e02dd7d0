// The inputs: for each feature a number field, and a slider over the training histogram.

import { element, named, part, shape } from "./dom.js";

const MARGIN = 0.08; // Of the training range, to either side.
const STEPS = 20; // A slider has that many at least.

/** Draw the inputs of a model. `changed` is called after each change by hand. */
export function inputs(card, changed) {
  // In the words of the page before there was a key.
  const words = new Map([...part("about").querySelectorAll("li")].map(({ firstChild, lastChild }) => [firstChild.textContent, lastChild.textContent]));
  const made = card.features.map((feature, i) => input(feature, words.get(feature.name), card.reference.features[i], card.sample?.rows.map((row) => row[i]), i));
  for (const one of made) {
    one.slider.addEventListener("input", () => changed(one.set(one.slider.valueAsNumber)));
    one.field.addEventListener("input", () => changed(one.follow()));
  }
  return {
    nodes: made.map((one) => one.node),
    domains: made.map((one) => one.domain),
    /** As JSON: what is no number is null. */
    row: () => Object.fromEntries(made.map((one) => [one.name, one.value()])),
    /** The same with an example where there is no number, and where that is. */
    complete: () => ({
      row: Object.fromEntries(made.map((one) => [one.name, one.value() ?? one.example])),
      empty: made.filter((one) => one.value() === null).map((one) => one.name),
    }),
    values: () => made.map((one) => one.value()),
    set: (i, value) => made[i].set(value),
    /** Characters of the longest number. */
    digits: Math.max(...made.map((one) => one.digits)),
    /** Tell errors beside their fields; gives them as they are told. */
    tell: (errors) => made.map((one) => one.tell(errors.find((error) => error.field === one.name)?.message)).filter(Boolean),
  };
}

function input(feature, allowed, histogram, column, i) {
  const domain = range(feature, histogram, column);
  const digits = Math.max(0, -Math.floor(Math.log10(domain.step)));
  const id = `feature-${i}`;
  const told = [feature.description, allowed && `allowed: ${allowed}`].filter(Boolean).join(" · ");
  const hint = element("p", { class: "hint", id: `${id}-hint` }, told);
  const field = element("input", { id, type: "number", step: "any", inputmode: "decimal", "aria-describedby": hint.id });
  const slider = element("input", { type: "range", min: domain.low, max: domain.high, step: domain.step, "aria-label": `${feature.name}, slider` });
  const picture = drawing(histogram, domain);
  const label = element("label", { for: id }, named(feature.name));
  const unit = feature.unit ? [element("span", { class: "unit" }, feature.unit)] : [];
  const ends = [domain.low, domain.high].map((end) => element("span", {}, end));
  const track = element("div", { class: "track" }, picture.node, slider, element("div", { class: "ends", "aria-hidden": "true" }, ...ends));
  const node = element("div", { class: "feature" }, element("div", { class: "named" }, label, ...unit, field), track, hint);
  const one = {
    name: feature.name, example: feature.example, node, domain, field, slider,
    digits: Math.max(...[feature.example, domain.low, domain.high].map((value) => String(value).length)),
    value: () => (Number.isFinite(field.valueAsNumber) ? field.valueAsNumber : null),
    follow() {
      if (one.value() === null) return;
      slider.value = one.value();
      picture.mark(one.value());
    },
    set(value) {
      field.value = Number(value.toFixed(digits));
      one.follow();
    },
    tell(message) {
      hint.style.minHeight = message ? hint.style.minHeight || `${hint.getBoundingClientRect().height}px` : ""; // Rows stay.
      hint.textContent = message ?? told;
      hint.classList.toggle("problem", Boolean(message));
      field.setAttribute("aria-invalid", Boolean(message));
      return message && `${feature.name}: ${message}`;
    },
  };
  field.value = feature.example;
  one.follow();
  return one;
}

/** What the slider spans: the training rows and a little more, inside the bounds, in round steps. */
export function range(feature, { edges }, column) {
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

/** Bars as high as rows are dense: the bins have about as many rows each, so widths differ. */
function drawing({ edges, counts }, { from, to, low, high }) {
  const place = (value) => (100 * (value - low)) / (high - low || 1);
  const ends = [from, ...edges, to];
  const width = counts.map((_, i) => Math.max(place(ends[i + 1]) - place(ends[i]), 0.1));
  const most = Math.max(...counts.map((count, i) => count / width[i])) || 1;
  const told = counts.map((count, i) => `${count} ${i ? `from ${edges[i - 1]}` : ""} ${i < edges.length ? `below ${edges[i]}` : ""}`);
  const bars = counts.map((count, i) => {
    const height = (100 * count) / width[i] / most;
    return shape("rect", { x: place(ends[i]), width: width[i], y: 100 - height, height });
  });
  const line = shape("line", { y1: 0, y2: 100 });
  const node = shape("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": `Training rows: ${told.join(", ")}` }, ...bars, line);
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
