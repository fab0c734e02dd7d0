// Shows the answer to one row: class, confidence, and a bar for each class.

import { mark } from "./chart.js";
import { byId, element, isolated, shape } from "./dom.js";

const QUIET = 800; // Milliseconds without a change before a screen reader speaks.

export const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

/** Create a bar for each class. Returns a function that shows an answer in them. */
export function classBars(classes) {
  const rows = classes.map((name, i) => {
    const bar = element("span", { class: `bar c${i % 6}` });
    const figure = element("span", { class: "figure" });
    const legend = shape("svg", { viewBox: "-6 -6 12 12", "aria-hidden": "true" }, mark(i));
    const node = element("li", {}, legend, isolated(name), element("span", { class: "rail" }, bar), figure);
    return { name, node, bar, figure };
  });
  const list = byId("bars"), panel = byId("answer");
  list.replaceChildren(...rows.map(({ node }) => node));
  if (rows.length > 3) list.tabIndex = 0; // It may scroll, by keyboard too.
  panel.classList.toggle("crowd", rows.length > 4);
  panel.classList.toggle("long", classes.some((name) => name.length > 16));
  // On a phone the answer is sticky: no focused field may hide under it.
  new ResizeObserver(() => byId("tried").style.setProperty("--answer", `${panel.offsetHeight}px`)).observe(panel);
  let timer;

  /** Show an answer, or that there is none and why. */
  return (answer, reason = "") => {
    const confidence = answer?.confidence === undefined ? "" : `${percent(answer.confidence)} confident`;
    byId("prediction").firstChild.textContent = answer?.prediction ?? "–";
    byId("confidence").textContent = confidence || "\u00a0";
    for (const { name, node, bar, figure } of rows) {
      const share = answer?.probabilities?.[name] ?? 0;
      bar.style.width = `${100 * share}%`;
      figure.textContent = answer ? percent(share) : "–";
      const first = name === answer?.prediction;
      // Scroll the predicted class of a long list into view.
      if (first && !node.classList.contains("first")) list.scrollTop = node.offsetTop - list.offsetTop - node.offsetHeight;
      node.classList.toggle("first", first);
    }
    clearTimeout(timer);
    const spoken = answer ? [answer.prediction, confidence].filter(Boolean).join(", ") : reason;
    timer = setTimeout(() => (byId("spoken").textContent = spoken), QUIET);
  };
}
