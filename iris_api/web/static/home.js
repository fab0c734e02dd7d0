// The page to try the model: by sliders, by CSV, and as code.

import { classBars } from "./answer.js";
import { send } from "./api.js";
import { scatterPlot } from "./chart.js";
import { byId, element } from "./dom.js";
import { inputs } from "./features.js";
import { forget, key } from "./key.js";
import { csvSection } from "./rows.js";
import { snippets } from "./snippets.js";
import { throttled } from "./throttle.js";

const TIMEOUT = 10; // Seconds that a lost answer delays the next request.
const address = new URL("v1/predict", document.baseURI).href;

function report(problem) {
  byId("message").textContent = String(problem);
  byId("message").hidden = !problem;
  byId("forget").hidden = !key();
}

function start(card) {
  byId("about").hidden = true;
  byId("tried").hidden = false;
  byId("model").textContent = description(card);

  const show = classBars(card.classes ?? []);
  const fields = inputs(card, onChange);
  const features = byId("features");
  features.replaceChildren(...fields.nodes);
  features.classList.toggle("many", fields.nodes.length > 6);
  features.style.setProperty("--digits", fields.width);
  const plot = card.sample && card.features.length > 1 ? scatterPlot(card, fields.domains, onPick) : null;
  byId("picture").hidden = !plot;
  const writeSnippet = codeTabs(fields.complete);
  csvSection(card, Number(document.body.dataset.mostRows), report);

  function onPick(indices, values) {
    indices.forEach((index, side) => fields.set(index, values[side]));
    onChange();
  }

  function onChange() {
    plot?.show(fields.values());
    writeSnippet();
    predict();
  }

  const predict = throttled(async () => {
    try {
      const answer = await send("v1/predict", { body: fields.row, seconds: TIMEOUT, report });
      fields.showErrors([]);
      show(answer);
      if (answer.model_version !== document.body.dataset.version) report("Another model answers by now: reload this page to see it.");
    } catch (problem) {
      const messages = fields.showErrors(problem.errors ?? []);
      show(null, messages.join("; "));
      report(messages.length ? "" : problem);
    }
  });

  onChange();
}

function description({ evaluation, version }) {
  const accuracy = evaluation?.accuracy > 0 ? `, right for ${(100 * evaluation.accuracy).toFixed(1)} % of ${evaluation.rows} rows (${evaluation.method})` : "";
  return `Model ${version}${accuracy}`;
}

/** Create a tab for each language. Returns a function that rewrites the snippet. */
function codeTabs(complete) {
  const tabs = Object.keys(snippets).map((name) => element("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "snippet" }, name));
  let selected = tabs[0];

  function write() {
    const { row, empty } = complete();
    byId("snippet").textContent = snippets[selected.textContent](address, row);
    byId("instead").textContent = empty.length ? `No number is entered, so the example's stands here: ${empty.join(", ")}.` : "";
  }

  function select(tab) {
    selected = tab;
    for (const each of tabs) {
      each.setAttribute("aria-selected", each === tab);
      each.tabIndex = each === tab ? 0 : -1;
    }
    byId("snippet").setAttribute("aria-labelledby", tab.id);
    write();
  }

  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", ({ key: pressed }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[pressed];
      if (!step) return;
      const next = tabs.at((i + step) % tabs.length);
      select(next);
      next.focus();
    });
  });
  byId("languages").replaceChildren(...tabs);
  byId("copy").addEventListener("click", copy);
  select(selected);
  return write;
}

function copy() { // `navigator.clipboard` needs HTTPS.
  getSelection().selectAllChildren(byId("snippet"));
  if (!document.execCommand("copy")) return;
  byId("copy").textContent = "Copied";
  setTimeout(() => (byId("copy").textContent = "Copy"), 1500);
}

byId("forget").addEventListener("click", () => {
  forget();
  location.reload();
});

byId("address").textContent = address;

try {
  start(await send("v1/model", { report }));
} catch (problem) {
  report(problem);
}
