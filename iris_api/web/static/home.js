// The page to try the model: one key, one row by sliders, many by CSV, and the request as code.

import { bars } from "./answer.js";
import { ask } from "./api.js";
import { scatter } from "./chart.js";
import { element, part } from "./dom.js";
import { inputs } from "./features.js";
import { forget, key } from "./key.js";
import { rows } from "./rows.js";
import { snippets } from "./snippets.js";
import { steady } from "./steady.js";

const SECONDS = 10; // For one row: an answer that is lost holds up the next one no longer.

function says(problem) {
  part("message").textContent = String(problem);
  part("message").hidden = !problem;
  part("forget").hidden = !key();
}

function start(card) {
  part("about").hidden = true;
  part("tried").hidden = false;
  part("model").textContent = described(card);

  const show = bars(card.classes ?? []);
  const given = inputs(card, changed);
  part("features").replaceChildren(...given.nodes);
  part("features").classList.toggle("many", given.nodes.length > 6);
  part("features").style.setProperty("--digits", given.digits);
  const picture = card.sample && card.features.length > 1 ? scatter(card, given.domains, picked) : null;
  part("picture").hidden = !picture;
  const write = programs(given.complete);
  rows(card, Number(document.body.dataset.mostRows), says);

  function picked(indices, values) {
    indices.forEach((index, side) => given.set(index, values[side]));
    changed();
  }

  function changed() {
    picture?.show(given.values());
    write();
    predict();
  }

  const predict = steady(async () => {
    try {
      const answer = await ask("v1/predict", { body: given.row, seconds: SECONDS, says });
      given.tell([]);
      show(answer);
      if (answer.model_version !== document.body.dataset.version) says("Another model answers by now: load this page anew to see it as it is.");
    } catch (problem) {
      const told = given.tell(problem.errors ?? []);
      show(null, told.join("; "));
      says(told.length ? "" : problem);
    }
  });

  changed();
}

function described({ evaluation, version }) {
  const good = evaluation?.accuracy > 0 ? `, right for ${(100 * evaluation.accuracy).toFixed(1)} % of ${evaluation.rows} rows (${evaluation.method})` : "";
  return `Model ${version}${good}`;
}

/** The tabs of the languages; gives what writes the chosen one anew. */
function programs(complete) {
  const url = new URL("v1/predict", document.baseURI).href;
  const tabs = Object.keys(snippets).map((name) => element("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "snippet" }, name));
  let chosen = tabs[0];

  function write() {
    const { row, empty } = complete();
    part("snippet").textContent = snippets[chosen.textContent](url, row);
    part("instead").textContent = empty.length ? `Without a number now, so the example's stands here: ${empty.join(", ")}.` : "";
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
      const next = tabs.at((i + step) % tabs.length);
      choose(next);
      next.focus();
    });
  });
  part("languages").replaceChildren(...tabs);
  part("copy").addEventListener("click", copy);
  choose(chosen);
  return write;
}

function copy() { // As by hand: a page that came over plain HTTP has no other way.
  getSelection().selectAllChildren(part("snippet"));
  if (!document.execCommand("copy")) return;
  part("copy").textContent = "Copied";
  setTimeout(() => (part("copy").textContent = "Copy"), 1500);
}

part("forget").addEventListener("click", () => {
  forget();
  location.reload();
});

part("address").textContent = new URL("v1/predict", document.baseURI).href; // As it is behind a proxy.

try {
  start(await ask("v1/model", { says }));
} catch (problem) {
  says(problem);
}
