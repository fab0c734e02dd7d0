// The request in four languages. Feature names may be any text, so each language quotes them.

// Characters that are invisible or change the direction of text are written as escapes.
const HIDDEN = /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

const code = (character) => character.charCodeAt(0).toString(16).padStart(4, "0");
const text = (value) => JSON.stringify(value).replace(HIDDEN, (character) => `\\u${code(character)}`);
const shell = (value) => `'${value.replaceAll("'", `'\\''`)}'`;

function php(value) {
  const escaped = value.replace(/["\\$]/g, "\\$&").replace(HIDDEN, (character) => `\\u{${code(character)}}`);
  return `"${escaped}"`;
}

const pairs = (row, write) => Object.entries(row).map(([name, value]) => write(name, value));
const block = (lines, indent) => lines.map((line) => `${" ".repeat(indent)}${line},\n`).join("");

export const snippets = {
  curl: (url, row) => `curl ${shell(url)} \\
  -H "X-API-Key: $KEY" -H 'Content-Type: application/json' \\
  -d ${shell(`{${pairs(row, (name, value) => `${text(name)}: ${value}`).join(", ")}}`)}
`,

  Python: (url, row) => `import os

import requests  # pip install requests

row = {
${block(pairs(row, (name, value) => `${text(name)}: ${value}`), 4)}}
answer = requests.post(
    ${text(url)}, json=row, headers={"X-API-Key": os.environ["KEY"]}, timeout=10
)
answer.raise_for_status()
print(answer.json()["prediction"])
`,

  PHP: (url, row) => `<?php
$row = [
${block(pairs(row, (name, value) => `${php(name)} => ${value}`), 4)}];
$request = curl_init(${php(url)});
curl_setopt_array($request, [
    CURLOPT_HTTPHEADER => ['X-API-Key: ' . getenv('KEY'), 'Content-Type: application/json'],
    CURLOPT_POSTFIELDS => json_encode($row, JSON_FORCE_OBJECT),
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_TIMEOUT => 10,
]);
$answer = json_decode(curl_exec($request), true);
echo $answer['prediction'] ?? $answer['detail'], "\\n";
`,

  // Without brackets, __proto__ would set the prototype and not a key.
  "JavaScript (Node)": (url, row) => `// A module: predict.mjs
const row = {
${block(pairs(row, (name, value) => `${name === "__proto__" ? `[${text(name)}]` : text(name)}: ${value}`), 2)}};
const response = await fetch(${text(url)}, {
  method: "POST",
  headers: { "X-API-Key": process.env.KEY, "Content-Type": "application/json" },
  body: JSON.stringify(row),
  signal: AbortSignal.timeout(10_000),
});
const answer = await response.json();
console.log(response.ok ? answer.prediction : answer.detail);
`,
};
