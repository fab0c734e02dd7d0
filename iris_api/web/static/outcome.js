// Shows the prediction of a file: progress, wrong rows and the first predictions.

import { percent } from "./answer.js";
import { byId, counted, element, isolated } from "./dom.js";

const LISTED = 100;

/** Clear the section. Returns a function that shows a batch, the share done and a last message. */
export function runView(names) {
  const body = element("tbody");
  const wrong = element("ul", { tabindex: 0, "aria-label": "Wrong rows" });
  let digits;
  byId("outcome").hidden = false;
  for (const id of ["told", "sofar", "bad", "table"]) byId(id).replaceChildren();

  return (run, batch, share, message) => {
    byId("progress").value = share;
    const over = message !== undefined;
    for (const id of ["cancel", "progress", "sofar"]) byId(id).hidden = over;
    byId("download").hidden = !over || !run?.done;
    const right = batch.filter((row) => row.answer).slice(0, LISTED - body.childElementCount);
    digits ??= right.length ? names.map((name) => Math.max(...right.map(({ values }) => decimals(values[name])))) : undefined;
    for (const { line, cells: original, values, answer } of right) {
      const numbers = names.map((name, i) => values[name].toFixed(digits[i]));
      const confidence = "confidence" in answer ? percent(answer.confidence) : "";
      const cells = [line, answer.prediction, confidence, ...run.own.map((column) => original[column]), ...numbers];
      body.append(element("tr", {}, ...cells.map((cell) => element("td", {}, isolated(cell)))));
    }
    const bad = batch.filter((row) => row.wrong).slice(0, LISTED - wrong.childElementCount);
    wrong.append(...bad.map((row) => element("li", {}, `Line ${row.line}: ${row.wrong}`)));
    if (body.firstChild && !byId("table").firstChild) {
      const head = ["line", "prediction", "confidence", ...run.own.map((column) => run.header[column]), ...names].map((name) => element("th", { scope: "col" }, isolated(name)));
      byId("table").append(element("table", {}, element("thead", {}, element("tr", {}, ...head)), body));
    }
    if (wrong.firstChild && !wrong.isConnected) byId("bad").append(wrong);
    if (over) byId("told").textContent = run ? [message, summary(run, body.childElementCount, wrong.childElementCount)].join(" ") : message;
    else byId("sofar").textContent = `${counted(run.done, "row")} so far`;
  };
}

const decimals = (value) => Math.min(String(value).split(".")[1]?.length ?? 0, 6);

function summary(run, right, wrong) {
  if (!run.done) return "";
  const more = run.good > right ? `, the first ${right} shown` : "";
  const bad = run.bad ? ` Wrong: ${counted(run.bad, "row")} (see the download's last column and below${run.bad > wrong ? `, the first ${wrong}` : ""}).` : "";
  const by = run.versions.size ? ` by model ${[...run.versions].join(" and ")}` : "";
  return `${counted(run.good, "row")} predicted${by}${more}.${bad}`;
}
