// A CSV file in, predictions out: in batches, in order, and with what was wrong by line.

import { ask } from "./api.js";
import { decoded, fresh, opened, value, written } from "./csv.js";
import { element, many, part } from "./dom.js";
import { outcome } from "./outcome.js";

const BATCH = 1000;
const PASTED = "rows.csv";
const LONG = 200_000; // Characters: a longer text is predicted as it is pasted, and not shown.

/** Wire the section of many rows. */
export function rows(card, mostRows, says) {
  const names = card.features.map(({ name }) => name);
  const size = Math.min(BATCH, mostRows);
  let stop, file;

  async function start(source, name) {
    stop?.abort();
    stop = new AbortController();
    file = null;
    const { signal } = stop;
    const show = outcome(names);
    try {
      const text = typeof source === "string" ? source : decoded(await source.arrayBuffer());
      signal.throwIfAborted();
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
          const told = field ? `${field}: ${message}` : message;
          left[row].wrong = left[row].wrong ? `${left[row].wrong}; ${told}` : told;
        }
        left = left.filter((row) => !row.wrong);
      }
    }
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
    const [chosen] = part("file").files;
    if (chosen) start(chosen, chosen.name);
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
      const [dropped] = event.dataTransfer.files;
      if (kind === "drop" && dropped) start(dropped, dropped.name);
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

  constructor({ separator, header, columns, comma }, names, classes, marked) {
    Object.assign(this, { separator, header, columns, comma, names, classes });
    const added = [];
    const sure = classes.length ? ["confidence", ...classes.map((name) => `probability_${name}`)] : [];
    for (const name of ["prediction", ...sure]) added.push(fresh(name, [...header, ...added]));
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
    }
    return batch.filter((row) => !row.wrong);
  }

  /** Write a batch as it was, and what was predicted. */
  take(batch) {
    const number = (share) => (this.comma ? String(share).replace(".", ",") : share);
    const lines = batch.map(({ cells, answer }) => {
      if (!answer) return written(cells, this.separator);
      const sure = this.classes.length ? [answer.confidence, ...this.classes.map((name) => answer.probabilities[name])] : [];
      return written([...cells, answer.prediction, ...sure.map(number)], this.separator);
    });
    this.parts.push(lines.join(""));
    for (const row of batch) if (row.version) this.versions.add(row.version);
    this.good += batch.filter((row) => row.answer).length;
    this.bad += batch.filter((row) => row.wrong).length;
  }
}

function save(parts, name) {
  const url = URL.createObjectURL(new Blob(parts, { type: "text/csv" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
