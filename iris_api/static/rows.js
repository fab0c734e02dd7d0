// A CSV file in, predictions out: in batches, in order, and with what was wrong by line.

import { percent } from "./answer.js";
import { ask } from "./api.js";
import { COMMA_NUMBER, decoded, fresh, opened, value, written } from "./csv.js";
import { element, part } from "./dom.js";

const BATCH = 1000;
const SHOWN = 100;
const PASTED = "rows.csv";
const LONG = 200_000; // Characters: a longer text is predicted as it is pasted, and not shown.

const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** Wire the section of many rows. */
export function rows(card, mostRows, says) {
  const names = card.features.map(({ name }) => name);
  const size = Math.min(BATCH, mostRows);
  let stop, file;

  async function start(text, name) {
    stop?.abort();
    stop = new AbortController();
    file = null;
    const { signal } = stop;
    const show = outcome(names);
    try {
      const table = opened(text, names);
      const run = new Run(table, names, card.classes ?? [], text.startsWith("\ufeff"));
      file = { run, name };
      for (const batch of batches(table.rows, size)) {
        await predict(run.prepare(batch), signal);
        run.take(batch);
        show(run, batch, batch.at(-1).end / text.length);
      }
      show(run, [], 1, run.done ? "" : "There are no rows.");
    } catch (error) {
      if (stop.signal === signal) show(file?.run, [], 1, signal.aborted ? "Cancelled." : `Stopped. ${error.title ? error : error.message}`);
    }
  }

  /** Ask for a batch; what the service finds wrong is taken out, and the rest asked for again. */
  async function predict(asked, signal) {
    let left = asked;
    while (left.length) {
      try {
        const answer = await ask("v1/predict", { body: left.map((row) => row.values), signal, says });
        left.forEach((row, i) => Object.assign(row, { answer: answer.predictions[i], version: answer.model_version }));
        return;
      } catch (problem) {
        if (problem.status === 413 && left.length > 1) {
          const half = Math.ceil(left.length / 2);
          await predict(left.slice(0, half), signal);
          return predict(left.slice(half), signal);
        }
        if (problem.status === 413) left[0].wrong = problem.message;
        else if (problem.status !== 422 || !problem.errors.some(({ row }) => left[row])) throw problem;
        for (const { row, field, message } of problem.errors) {
          const told = `${field}: ${message}`;
          left[row].wrong = left[row].wrong ? `${left[row].wrong}; ${told}` : told;
        }
        left = left.filter((row) => !row.wrong);
      }
    }
  }

  async function take(chosen) {
    if (chosen) start(decoded(await chosen.arrayBuffer()), chosen.name);
  }

  const pasted = part("pasted");
  pasted.placeholder = `${names.join(",")}\n${card.features.map(({ example }) => example).join(",")}`;
  pasted.addEventListener("paste", (event) => {
    const text = event.clipboardData.getData("text");
    if (text.length < LONG) return;
    event.preventDefault();
    start(text, PASTED);
  });
  part("run").addEventListener("click", () => start(pasted.value, PASTED));
  part("choose").addEventListener("click", () => part("file").click());
  part("file").addEventListener("change", () => {
    take(part("file").files[0]);
    part("file").value = "";
  });
  part("example").addEventListener("click", () => {
    const shown = card.sample?.rows.filter((_, i, all) => i % Math.ceil(all.length / 8) === 0) ?? [card.features.map(({ example }) => example)];
    pasted.value = [names, ...shown].map((cells) => written(cells, ",")).join("");
  });
  part("cancel").addEventListener("click", () => stop.abort());
  part("download").addEventListener("click", () => save(file.run.parts, file.name.replace(/(\.\w+)?$/, "-predicted.csv")));
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      part("drop").classList.toggle("over", kind === "dragover");
      if (kind === "drop") take(event.dataTransfer.files[0]);
    });
  }
}

function* batches(records, size) {
  let batch = [];
  for (const record of records) {
    batch.push(record);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length) yield batch;
}

/** What came of a file: the lines to download, and how many rows were right and wrong. */
class Run {
  good = 0;
  bad = 0;
  versions = new Set();
  #comma = false;

  constructor({ separator, header, columns }, names, classes, marked) {
    Object.assign(this, { separator, header, columns, names, classes });
    const added = [];
    for (const name of ["prediction", "confidence", ...classes.map((name) => `probability_${name}`)]) added.push(fresh(name, [...header, ...added]));
    this.parts = [(marked ? "\ufeff" : "") + written([...header, ...added], separator)];
  }

  get done() {
    return this.good + this.bad;
  }

  /** The rows of a batch that can be asked for, with their values. */
  prepare(batch) {
    for (const row of batch) {
      if (row.cells.length !== this.header.length) row.wrong ??= `${many(row.cells.length, "cell")} where the first line has ${this.header.length}`;
      const cells = this.columns.map((column) => row.cells[column] ?? "");
      row.values = Object.fromEntries(this.names.map((name, i) => [name, value(cells[i], this.separator)]));
      this.#comma ||= this.separator === ";" && cells.some((cell) => COMMA_NUMBER.test(cell.trim()));
    }
    return batch.filter((row) => !row.wrong);
  }

  /** Write a batch as it was, and what was predicted. */
  take(batch) {
    const number = (share) => (this.#comma ? String(share).replace(".", ",") : share);
    const lines = batch.map(({ cells, answer }) => {
      if (!answer) return written(cells, this.separator);
      const shares = this.classes.map((name) => answer.probabilities[name]);
      return written([...cells, answer.prediction, ...[answer.confidence, ...shares].map(number)], this.separator);
    });
    this.parts.push(lines.join(""));
    for (const row of batch) if (row.version) this.versions.add(row.version);
    this.good += batch.filter((row) => row.answer).length;
    this.bad += batch.filter((row) => row.wrong).length;
  }
}

/** Clear what was shown of the run before, and give what shows this one as it goes. */
function outcome(names) {
  const body = element("tbody");
  const wrong = element("ul");
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

function save(parts, name) {
  const url = URL.createObjectURL(new Blob(parts, { type: "text/csv" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
