// Requests the drift report with the reader's key, and draws it.

import { Problem, sendOnce } from "./api.js";
import { byId, element, isolated, shape } from "./dom.js";
import { accept, askForKey, key, refuse } from "./key.js";
import { throttled } from "./throttle.js";

const REFRESH = 10; // Seconds.

const number = (value, digits = 3) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const short = (value) => String(Number(value.toPrecision(4)));

const shares = (counts) => {
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.map((count) => (total ? count / total : 0));
};

/** Two bars for each bin or class, training and live. `edges` are written between the bins. */
function histogram(comparison, names, edges) {
  const width = 320, height = 150, floor = 122, top = 14;
  const pairs = [shares(comparison.reference), shares(comparison.live)];
  const largest = Math.max(...pairs.flat());
  const step = width / names.length;
  const bar = Math.min(step * 0.36, 40);
  const description = names.map((name, i) => `${name}: ${pairs.map((p) => Math.round(p[i] * 100) + " %").join(" then ")}`);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Share of training rows, then of live rows. ${description.join("; ")}` });
  names.forEach((name, i) => {
    const middle = (i + 0.5) * step;
    pairs.forEach((pair, side) => {
      const tall = (pair[i] / largest) * (floor - top);
      const x = middle + (side - 1) * bar;
      svg.append(shape("rect", { class: side ? "live" : "reference", x, y: floor - tall, width: bar - 1, height: tall }));
      svg.append(shape("text", { x: x + bar / 2, y: floor - tall - 3 }, Math.round(pair[i] * 100)));
    });
    if (!edges) svg.append(shape("text", { x: middle, y: floor + 16 }, name));
  });
  svg.append(shape("line", { x1: 0, x2: width, y1: floor, y2: floor }));
  (edges ?? []).forEach((edge, i) => svg.append(shape("text", { x: (i + 1) * step, y: floor + 16 }, short(edge))));
  return svg;
}

function card(title, comparison, chart, unit = "") {
  const limit = comparison.threshold === null ? "–" : number(comparison.threshold);
  const head = element("header", {}, element("h2", {}, title, unit), verdict(comparison.verdict));
  const figures = element("p", { class: "figures" }, `PSI ${number(comparison.psi)}, limit ${limit}`);
  return element("article", {}, head, figures, chart);
}

const verdict = (text) => element("span", { class: `verdict ${text.replaceAll(" ", "-")}` }, text);

function show(report) {
  const rows = report.rows < report.rows_needed ? `${report.rows.toLocaleString("en")} of ${report.rows_needed} needed` : report.rows.toLocaleString("en");
  const entries = { Verdict: verdict(report.verdict), "Live rows": rows, Since: new Date(report.since).toLocaleString(), "Model version": report.model_version };
  byId("summary").replaceChildren(...Object.entries(entries).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  const cards = report.features.map((comparison) => {
    const unit = comparison.unit ? ` (${comparison.unit})` : "";
    return card(isolated(comparison.feature), comparison, histogram(comparison, comparison.bins, comparison.edges), unit);
  });
  cards.push(card("predicted class", report.predictions, histogram(report.predictions, report.predictions.classes)));
  byId("cards").replaceChildren(...cards);
  byId("report").hidden = false;
  setText("verdict", `Verdict: ${report.verdict}`);
}

/** Change a text only if it differs: a screen reader reads each change. */
function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
  byId(id).hidden = !text;
}

const refresh = throttled(async () => {
  if (!key()) await askForKey();
  const used = key();
  try {
    show(await sendOnce("v1/drift", { used }));
    accept();
    setText("message", "");
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    const isRefused = problem.status === 401;
    setText("message", isRefused ? "" : problem.status ? String(problem) : "The service does not answer. This page tries again.");
    if (!isRefused) return;
    byId("report").hidden = true;
    refuse(used);
    refresh();
  }
});

refresh();
setInterval(() => key() && refresh(), REFRESH * 1000);
