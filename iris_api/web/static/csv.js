// CSV by RFC 4180, and its common relatives: other separators, other line ends, a byte order mark.

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const COMMA_NUMBER = /^[+-]?\d*,\d+$/;
const COMMA_CELL = /(^|;) *"?[+-]?\d*,\d+"? *(;|\r|$)/m;

/** Text of a file: UTF-16 by its mark, else UTF-8, else what Western spreadsheets write. But for plain
 * UTF-8 it has a mark in front, by which they read it when it comes back. */
export function decoded(bytes) {
  const [first, second] = new Uint8Array(bytes);
  const as = (encoding) => new TextDecoder(encoding, { fatal: encoding === "utf-8", ignoreBOM: true }).decode(bytes);
  if (first === 0xff && second === 0xfe) return as("utf-16le");
  if (first === 0xfe && second === 0xff) return as("utf-16be");
  try {
    return as("utf-8");
  } catch {
    return `\ufeff${as("windows-1252")}`;
  }
}

/** Records with the line that each starts on, and where it ends. Blank lines are left out.
 * A line whose quotes make no sense is told as wrong, and costs none of the lines after it. */
export function* records(text, separator) {
  const stop = new RegExp(`[${separator}\r\n]|$`, "g");
  let at = text.charCodeAt(0) === 0xfeff ? 1 : 0;
  let line = 1;
  while (at < text.length) {
    const record = { line, cells: [], end: 0 };
    const start = at;
    let wrong = "";
    let mark = separator;
    while (mark === separator) {
      let cell = "";
      if (text[at] === '"') {
        let close = text.indexOf('"', at + 1);
        while (text[close + 1] === '"' && close > 0) close = text.indexOf('"', close + 2);
        const next = text[close + 1] ?? "\n";
        if (close < 0) wrong = "a quote is opened here and never closed";
        else if (![separator, "\r", "\n"].includes(next)) wrong = "a quote is closed within a cell";
        if (wrong) break;
        cell = text.slice(at + 1, close).replaceAll('""', '"');
        line += cell.match(/\r\n|\n|\r/g)?.length ?? 0;
        at = close + 1;
      }
      stop.lastIndex = at;
      const found = stop.exec(text);
      record.cells.push(cell + text.slice(at, found.index));
      [mark] = found;
      at = found.index + mark.length;
    }
    if (wrong) {
      const ending = /\r\n?|\n|$/g;
      ending.lastIndex = start;
      const found = ending.exec(text);
      at = found.index + Math.max(found[0].length, 1);
      line = record.line + 1;
      yield { line: record.line, cells: [text.slice(start, found.index)], end: Math.min(at, text.length), wrong };
      continue;
    }
    if (mark === "\r" && text[at] === "\n") at += 1;
    line += 1;
    record.end = at;
    if (record.cells.length > 1 || record.cells[0] !== "") yield record;
  }
}

/** Find separator and columns by the header: the separator is the one that names most features.
 * Decimals have commas if those of any cell have: no file should come back with both. */
export function opened(text, features) {
  if (!text.trim()) throw new Error("Paste rows, or choose a file.");
  const tries = [",", ";", "\t"].map((separator) => {
    const rows = records(text, separator);
    const header = rows.next().value?.cells.map((cell) => cell.trim()) ?? [];
    return { separator, rows, header, columns: features.map((name) => header.indexOf(name)) };
  });
  const known = ({ columns }) => columns.filter((column) => column >= 0).length;
  const table = tries.reduce((best, other) => (known(other) > known(best) ? other : best));
  const missing = features.filter((_, i) => table.columns[i] < 0);
  if (missing.length) throw new Error(`The first line has to name the columns. Not there: ${missing.join(", ")}`);
  const twice = features.filter((name) => table.header.indexOf(name) !== table.header.lastIndexOf(name));
  if (twice.length) throw new Error(`The first line names a column twice: ${twice.join(", ")}`);
  table.comma = table.separator === ";" && COMMA_CELL.test(text);
  return table;
}

/** What a cell says: a number, nothing, or text that the service will refuse. */
export function value(cell, separator) {
  const text = cell.trim();
  if (NUMBER.test(text)) return Number(text);
  // Where commas are decimal, semicolons separate.
  if (separator === ";" && COMMA_NUMBER.test(text)) return Number(text.replace(",", "."));
  return text || null;
}

/** Cells as a line. */
export function written(cells, separator) {
  const special = new RegExp(`["\r\n${separator}]`);
  const quoted = (cell) => (special.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return cells.map((cell) => quoted(String(cell))).join(separator) + "\r\n";
}

/** A name for a new column that no other column has. */
export function fresh(name, header) {
  return header.includes(name) ? fresh(`${name}_`, header) : name;
}
