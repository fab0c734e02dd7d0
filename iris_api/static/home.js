// The page to try the model: one key, one row by sliders, many by CSV, and the request as code.

import { bars } from "./answer.js";
import { ask } from "./api.js";
import { scatter } from "./chart.js";
import { element, part } from "./dom.js";
import { inputs } from "./features.js";
import { forget, key } from "./key.js";
import { rows } from "./rows.js";
import { snippets } from "./snippets.js";

const REST = 100; // Milliseconds that the sliders rest before the service is asked.

function says(problem) {
  part("message").textContent = String(problem);
  part("message").hidden = !problem;
  part("forget").hidden = !key();
}

function start(card) {
  part("about").hidden = true;
  part("tried").hidden = false;
  part("forget").hidden = false;
  part("model").textContent = described(card);

  const show = bars(card.classes ?? []);
  const given = inputs(card, changed);
  part("features").replaceChildren(...given.nodes);
  part("features").classList.toggle("many", given.nodes.length > 6);
  const picture = card.sample && card.features.length > 1 ? scatter(card, given.domains, picked) : null;
  part("picture").hidden = !picture;
  const write = programs(given.row);
  rows(card, Number(document.body.dataset.mostRows), says);

  let asking = new AbortController();
  let resting;

  function picked(indices, values) {
    indices.forEach((index, side) => given.set(index, values[side]));
    changed();
  }

  function changed() {
    asking.abort(); // The last answer wins: one that is on its way is of no use.
    clearTimeout(resting);
    resting = setTimeout(predict, REST);
    picture?.show(given.values());
  }

  async function predict() {
    asking = new AbortController();
    const { signal } = asking;
    write();
    try {
      const answer = await ask("v1/predict", { body: given.row(), signal, says });
      if (signal.aborted) return;
      given.tell([]);
      show(answer);
      if (answer.model_version !== card.version) says("Another model answers by now: load this page anew to see it as it is.");
    } catch (problem) {
      if (signal.aborted) return;
      show(null);
      says(given.tell(problem.errors ?? []) ? "" : problem);
    }
  }

  changed();
}

function described({ evaluation, version }) {
  const good = evaluation?.accuracy > 0 ? `, right for ${(100 * evaluation.accuracy).toFixed(1)} % of ${evaluation.rows} rows (${evaluation.method})` : "";
  return `Model ${version}${good}`;
}

/** The tabs of the languages; gives what writes the chosen one anew. */
function programs(row) {
  const url = new URL("v1/predict", document.baseURI).href;
  const tabs = Object.keys(snippets).map((name) => element("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "snippet" }, name));
  let chosen = tabs[0];

  function write() {
    if (Object.values(row()).includes(null)) return;
    part("snippet").textContent = snippets[chosen.textContent](url, row());
  }

  function choose(tab) {
    chosen = tab;
    for (const one of tabs) {
      one.setAttribute("aria-selected", one === tab);
      one.tabIndex = one === tab ? 0 : -1;
    }
    part("snippet").setAttribute("aria-labelledby", tab.id);
    write();
  }

  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", ({ key: pressed }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[pressed];
      if (!step) return;
      const next = tabs[(i + step + tabs.length) % tabs.length];
      choose(next);
      next.focus();
    });
  });
  part("languages").replaceChildren(...tabs);
  part("copy").addEventListener("click", copy);
  choose(chosen);
  return write;
}

async function copy() {
  try {
    await navigator.clipboard.writeText(part("snippet").textContent);
  } catch { // A page that came over plain HTTP may not: the text is selected, to be copied by hand.
    getSelection().selectAllChildren(part("snippet"));
    if (!document.execCommand("copy")) return;
  }
  part("copy").textContent = "Copied";
  setTimeout(() => (part("copy").textContent = "Copy"), 1500);
}

part("forget").addEventListener("click", () => {
  forget();
  location.reload();
});

try {
  start(await ask("v1/model", { says }));
} catch (problem) {
  says(problem);
}
