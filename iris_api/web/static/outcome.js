// What is shown of a file that is predicted: how far it is, what was wrong, the first rows.

import { percent } from "./answer.js";
import { element, many, named, part } from "./dom.js";

const SHOWN = 100;

/** Clear what was shown of the run before, and give what shows this one as it goes. */
export function outcome(names) {
  const body = element("tbody");
  const wrong = element("ul", { tabindex: 0, "aria-label": "Wrong rows" });
  let shown = 0, listed = 0, digits;
  part("outcome").hidden = false;
  for (const id of ["told", "sofar", "bad", "table"]) part(id).replaceChildren();

  return (run, batch, share, last) => {
    part("progress").value = share;
    const over = last !== undefined;
    for (const id of ["cancel", "progress", "sofar"]) part(id).hidden = over;
    part("download").hidden = !over || !run?.done;
    const right = batch.filter((row) => row.answer).slice(0, SHOWN - shown);
    digits ??= right.length ? names.map((name) => Math.max(...right.map(({ values }) => decimals(values[name])))) : undefined;
    for (const { line, cells: given, values, answer } of right) {
      const numbers = names.map((name, i) => values[name].toFixed(digits[i]));
      const sure = "confidence" in answer ? percent(answer.confidence) : "";
      const cells = [line, answer.prediction, sure, ...run.own.map((column) => given[column]), ...numbers];
      body.append(element("tr", {}, ...cells.map((cell) => element("td", {}, named(cell)))));
      shown += 1;
    }
    for (const row of batch.filter((one) => one.wrong).slice(0, SHOWN - listed)) {
      wrong.append(element("li", {}, `Line ${row.line}: ${row.wrong}`));
      listed += 1;
    }
    if (shown && !part("table").firstChild) {
      const head = ["line", "prediction", "confidence", ...run.own.map((column) => run.header[column]), ...names].map((name) => element("th", { scope: "col" }, named(name)));
      part("table").append(element("table", {}, element("thead", {}, element("tr", {}, ...head)), body));
    }
    if (listed && !part("bad").firstChild) part("bad").append(wrong);
    if (run && (over || !batch.length)) part("told").textContent = [last, told(run, shown, listed)].join(" ");
    else if (run) part("sofar").textContent = `${many(run.done, "row")} so far`;
    else if (last) part("told").textContent = last;
  };
}

const decimals = (value) => Math.min(String(value).split(".")[1]?.length ?? 0, 6);

function told(run, shown, listed) {
  if (!run.done) return "";
  const more = run.good > shown ? `, the first ${shown} shown` : "";
  const bad = run.bad ? ` Wrong: ${many(run.bad, "row")}, told in the download's last column and below${run.bad > listed ? `, the first ${listed}` : ""}.` : "";
  const by = run.versions.size ? ` by model ${[...run.versions].join(" and ")}` : "";
  return `${many(run.good, "row")} predicted${by}${more}.${bad}`;
}
