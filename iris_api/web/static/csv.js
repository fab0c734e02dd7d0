// Reads and writes CSV (RFC 4180), also with other separators, line ends and a byte order mark.

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const COMMA_NUMBER = /^[+-]?\d*,\d+$/;
const COMMA_CELL = /(^|;) *"?[+-]?\d*,\d+"? *(;|\r|$)/m;

/** Text of a file: UTF-16 by its byte order mark, else UTF-8, else Windows-1252. Unless it is plain
 * UTF-8, it begins with a mark: spreadsheets need that in the download. */
export function decoded(bytes) {
  const [first, second] = new Uint8Array(bytes);
  const decode = (encoding) => new TextDecoder(encoding, { fatal: encoding === "utf-8", ignoreBOM: true }).decode(bytes);
  if (first === 0xff && second === 0xfe) return decode("utf-16le");
  if (first === 0xfe && second === 0xff) return decode("utf-16be");
  try {
    return decode("utf-8");
  } catch {
    return `\ufeff${decode("windows-1252")}`;
  }
}

/** Records with their first line and the position of their end. Blank lines are skipped. A line with
 * broken quotes is a record with a reason in `wrong`; the lines after it are read. */
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
      const match = stop.exec(text);
      record.cells.push(cell + text.slice(at, match.index));
      [mark] = match;
      at = match.index + mark.length;
    }
    if (wrong) {
      const ending = /\r\n?|\n|$/g;
      ending.lastIndex = start;
      const match = ending.exec(text);
      at = match.index + Math.max(match[0].length, 1);
      line = record.line + 1;
      yield { line: record.line, cells: [text.slice(start, match.index)], end: Math.min(at, text.length), wrong };
      continue;
    }
    if (mark === "\r" && text[at] === "\n") at += 1;
    line += 1;
    record.end = at;
    if (record.cells.length > 1 || record.cells[0] !== "") yield record;
  }
}

/** Parse the header. The separator is the one with which it names most features.
 * If any cell has a decimal comma, all numbers of the download have one. */
export function opened(text, features) {
  if (!text.trim()) throw new Error("Paste rows, or choose a file.");
  const tries = [",", ";", "\t"].map((separator) => {
    const rows = records(text, separator);
    const header = rows.next().value?.cells.map((cell) => cell.trim()) ?? [];
    return { separator, rows, header, columns: features.map((name) => header.indexOf(name)) };
  });
  const matched = ({ columns }) => columns.filter((column) => column >= 0).length;
  const table = tries.reduce((best, other) => (matched(other) > matched(best) ? other : best));
  const missing = features.filter((_, i) => table.columns[i] < 0);
  if (missing.length) throw new Error(`The first line has to name the columns. Not there: ${missing.join(", ")}`);
  const twice = features.filter((name) => table.header.indexOf(name) !== table.header.lastIndexOf(name));
  if (twice.length) throw new Error(`The first line names a column twice: ${twice.join(", ")}`);
  table.comma = table.separator === ";" && COMMA_CELL.test(text);
  return table;
}

/** Value of a cell: a number, null if it is empty, or text, which the service refuses. */
export function value(cell, separator) {
  const text = cell.trim();
  if (NUMBER.test(text)) return Number(text);
  // Semicolons separate cells with decimal commas.
  if (separator === ";" && COMMA_NUMBER.test(text)) return Number(text.replace(",", "."));
  return text || null;
}

/** Cells as a line of text. */
export function written(cells, separator) {
  const special = new RegExp(`["\r\n${separator}]`);
  const quoted = (cell) => (special.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return cells.map((cell) => quoted(String(cell))).join(separator) + "\r\n";
}

/** A name for a new column that no other column has. */
export function fresh(name, header) {
  return header.includes(name) ? fresh(`${name}_`, header) : name;
}
