// The result for a file: lines to download, and the numbers of right and wrong rows.

import { refusal } from "./contract.js";
import { fresh, value, written } from "./csv.js";
import { counted } from "./dom.js";

export class Run {
  good = 0;
  bad = 0;
  versions = new Set();

  constructor({ separator, header, columns, comma }, { features, classes = [] }, marked) {
    Object.assign(this, { separator, header, columns, comma, features, classes });
    const added = [];
    const shares = classes.length ? ["confidence", ...classes.map((name) => `probability_${name}`)] : [];
    for (const name of ["prediction", ...shares, "error"]) added.push(fresh(name, [...header, ...added]));
    this.added = added.length;
    this.parts = [(marked ? "\ufeff" : "") + written([...header, ...added], separator)];
  }

  get done() {
    return this.good + this.bad;
  }

  /** The first column that is no feature, if there is one: it identifies a row. */
  get own() {
    return [...this.header.keys()].filter((column) => !this.columns.includes(column)).slice(0, 1);
  }

  /** Parse a batch; returns the rows that keep the contract. The others are not sent. */
  prepare(batch) {
    for (const row of batch) {
      if (row.cells.length !== this.header.length) row.wrong ??= `${counted(row.cells.length, "cell")} where the first line has ${this.header.length}`;
      if (row.wrong) continue;
      const values = this.columns.map((column) => value(row.cells[column], this.separator));
      row.values = Object.fromEntries(this.features.map(({ name }, i) => [name, values[i]]));
      const refused = this.features.map((feature, i) => [feature.name, refusal(feature, values[i])]).filter(([, why]) => why);
      row.wrong = refused.map((pair) => pair.join(": ")).join("; ");
    }
    return batch.filter((row) => !row.wrong);
  }

  /** Append the lines of a batch: the cells, then the prediction or the error. */
  take(batch) {
    const number = (share) => (this.comma ? String(share).replace(".", ",") : share);
    const lines = batch.map(({ cells, answer, wrong = "" }) => {
      const shares = answer && this.classes.length ? [answer.confidence, ...this.classes.map((name) => answer.probabilities[name])] : [];
      const predicted = answer ? [answer.prediction, ...shares.map(number)] : [];
      return written([...this.#fitted(cells), ...predicted, ...Array(this.added - 1 - predicted.length).fill(""), wrong], this.separator);
    });
    this.parts.push(lines.join(""));
    for (const row of batch) if (row.version) this.versions.add(row.version);
    this.good += batch.filter((row) => row.answer).length;
    this.bad += batch.filter((row) => row.wrong).length;
  }

  /** As many cells as the header has. Surplus cells are joined into the last one. */
  #fitted(cells) {
    const { length } = this.header;
    if (cells.length > length) return [...cells.slice(0, length - 1), cells.slice(length - 1).join(this.separator)];
    return [...cells, ...Array(length - cells.length).fill("")];
  }
}
