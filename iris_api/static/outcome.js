// What is shown of a file while it is predicted and afterwards: how far, what was wrong, the first rows.

import { percent } from "./answer.js";
import { element, many, part } from "./dom.js";

const SHOWN = 100;

/** Clear what was shown of the run before, and give what shows this one as it goes. */
export function outcome(names) {
  const body = element("tbody");
  const wrong = element("ul", { tabindex: 0, "aria-label": "Wrong rows" }); // It scrolls.
  let shown = 0, listed = 0, digits;
  part("outcome").hidden = false;
  part("told").textContent = part("sofar").textContent = "";
  part("bad").replaceChildren();
  part("table").replaceChildren();

  return (run, batch, share, last) => {
    part("progress").value = share;
    part("cancel").hidden = last !== undefined;
    part("sofar").hidden = last !== undefined;
    part("progress").hidden = last !== undefined;
    part("download").hidden = last === undefined || !run?.done;
    const right = batch.filter((row) => row.answer).slice(0, SHOWN - shown);
    digits ??= right.length ? names.map((name) => Math.max(...right.map(({ values }) => decimals(values[name])))) : undefined;
    for (const { line, values, answer } of right) {
      const numbers = names.map((name, i) => values[name].toFixed(digits[i]));
      const cells = [line, ...numbers, answer.prediction, ...("confidence" in answer ? [percent(answer.confidence)] : [""])];
      body.append(element("tr", {}, ...cells.map((cell) => element("td", {}, element("bdi", {}, cell)))));
      shown += 1;
    }
    for (const row of batch.filter((one) => one.wrong).slice(0, SHOWN - listed)) {
      wrong.append(element("li", {}, `Line ${row.line}: ${row.wrong}`));
      listed += 1;
    }
    if (shown && !part("table").firstChild) {
      const head = ["line", ...names, "prediction", "confidence"].map((name) => element("th", { scope: "col" }, element("bdi", {}, name)));
      part("table").append(element("table", {}, element("thead", {}, element("tr", {}, ...head)), body));
    }
    if (listed && !part("bad").firstChild) part("bad").append(wrong);
    if (run && (last !== undefined || !batch.length)) part("told").textContent = [last, told(run, shown, listed)].join(" ");
    else if (run) part("sofar").textContent = `${many(run.done, "row")} so far`;
    else if (last) part("told").textContent = last;
  };
}

const decimals = (value) => Math.min(String(value).split(".")[1]?.length ?? 0, 6);

function told(run, shown, listed) {
  if (!run.done) return "";
  const more = run.good > shown ? `, the first ${shown} shown` : "";
  const bad = run.bad ? ` Wrong: ${many(run.bad, "row")}, left empty in the download and told below${run.bad > listed ? `, the first ${listed}` : ""}.` : "";
  const by = run.versions.size ? ` by model ${[...run.versions].join(" and ")}` : "";
  return `${many(run.good, "row")} predicted${by}${more}.${bad}`;
}
