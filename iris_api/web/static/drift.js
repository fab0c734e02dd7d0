// Asks for the drift report with the reader's key, and draws it.

import { Problem, once } from "./api.js";
import { element, named, part, shape } from "./dom.js";
import { accepted, given, key, refuse } from "./key.js";
import { steady } from "./steady.js";

const SECONDS = 10;

const number = (value, digits = 3) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const short = (value) => String(Number(value.toPrecision(4)));

const shares = (counts) => {
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.map((count) => (total ? count / total : 0));
};

function picture(comparison, names, between) {
  const width = 320, height = 150, floor = 122, top = 14;
  const pairs = [shares(comparison.reference), shares(comparison.live)];
  const most = Math.max(...pairs.flat());
  const step = width / names.length;
  const bar = Math.min(step * 0.36, 40);
  const told = names.map((name, i) => `${name}: ${pairs.map((p) => Math.round(p[i] * 100) + " %").join(" then ")}`);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Share of training rows, then of live rows. ${told.join("; ")}` });
  names.forEach((name, i) => {
    const middle = (i + 0.5) * step;
    pairs.forEach((pair, side) => {
      const tall = (pair[i] / most) * (floor - top);
      const x = middle + (side - 1) * bar;
      svg.append(shape("rect", { class: side ? "live" : "reference", x, y: floor - tall, width: bar - 1, height: tall }));
      svg.append(shape("text", { x: x + bar / 2, y: floor - tall - 3 }, Math.round(pair[i] * 100)));
    });
    if (!between) svg.append(shape("text", { x: middle, y: floor + 16 }, name));
  });
  svg.append(shape("line", { x1: 0, x2: width, y1: floor, y2: floor }));
  (between ?? []).forEach((edge, i) => svg.append(shape("text", { x: (i + 1) * step, y: floor + 16 }, short(edge))));
  return svg;
}

function card(title, comparison, drawing, unit = "") {
  const limit = comparison.threshold === null ? "–" : number(comparison.threshold);
  const head = element("header", {}, element("h2", {}, title, unit), verdict(comparison.verdict));
  const figures = element("p", { class: "figures" }, `PSI ${number(comparison.psi)}, limit ${limit}`);
  return element("article", {}, head, figures, drawing);
}

const verdict = (text) => element("span", { class: `verdict ${text.replaceAll(" ", "-")}` }, text);

function show(report) {
  const rows = report.rows < report.rows_needed ? `${report.rows.toLocaleString("en")} of ${report.rows_needed} needed` : report.rows.toLocaleString("en");
  const entries = { Verdict: verdict(report.verdict), "Live rows": rows, Since: new Date(report.since).toLocaleString(), "Model version": report.model_version };
  part("summary").replaceChildren(...Object.entries(entries).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  const cards = report.features.map((found) => {
    const unit = found.unit ? ` (${found.unit})` : "";
    return card(named(found.feature), found, picture(found, found.bins, found.edges), unit);
  });
  cards.push(card("predicted class", report.predictions, picture(report.predictions, report.predictions.classes)));
  part("cards").replaceChildren(...cards);
  part("report").hidden = false;
  tell("verdict", `Verdict: ${report.verdict}`);
}

/** Say it once: what did not change is not read out again. */
function tell(id, text) {
  if (part(id).textContent !== text) part(id).textContent = text;
  part(id).hidden = !text;
}

const refresh = steady(async () => {
  if (!key()) await given();
  const used = key();
  try {
    show(await once("v1/drift", { used }));
    accepted();
    tell("message", "");
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    const refused = problem.status === 401;
    tell("message", refused ? "" : problem.status ? String(problem) : "The service does not answer. This page tries again.");
    if (!refused) return;
    part("report").hidden = true;
    refuse(used);
    refresh();
  }
});

refresh();
setInterval(() => key() && refresh(), SECONDS * 1000);
