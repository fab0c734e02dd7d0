// The answer: class, confidence and a bar for each class, that change in place.

import { mark } from "./chart.js";
import { element, named, part, shape } from "./dom.js";

const SILENCE = 800; // Milliseconds without a change before a screen reader is told.

export const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

/** Make a bar for each class, and give what shows an answer in them. */
export function bars(classes) {
  const made = classes.map((name, i) => {
    const bar = element("span", { class: `bar c${i % 6}` });
    const figure = element("span", { class: "figure" });
    const legend = shape("svg", { viewBox: "-6 -6 12 12", "aria-hidden": "true" }, mark(i));
    const node = element("li", {}, legend, named(name), element("span", { class: "rail" }, bar), figure);
    return { name, node, bar, figure };
  });
  part("bars").replaceChildren(...made.map(({ node }) => node));
  if (made.length > 3) part("bars").tabIndex = 0; // It scrolls where there is little room.
  part("answer").classList.toggle("crowd", made.length > 4);
  part("answer").classList.toggle("long", classes.some((name) => name.length > 16));
  // On a phone it stays in sight: nothing that has the focus may hide under it.
  new ResizeObserver(() => part("tried").style.setProperty("--answer", `${part("answer").offsetHeight}px`)).observe(part("answer"));
  let spoken;

  /** Show an answer; or that there is none, and say why. */
  return (answer, why = "") => {
    const sure = answer?.confidence === undefined ? "" : `${percent(answer.confidence)} confident`;
    part("prediction").firstChild.textContent = answer?.prediction ?? "–";
    part("confidence").textContent = sure || "\u00a0";
    for (const { name, node, bar, figure } of made) {
      const share = answer?.probabilities?.[name] ?? 0;
      bar.style.width = `${100 * share}%`;
      figure.textContent = answer ? percent(share) : "–";
      const first = name === answer?.prediction;
      // Of many, the one that is predicted is in sight.
      if (first && !node.classList.contains("first")) part("bars").scrollTop = node.offsetTop - part("bars").offsetTop - node.offsetHeight;
      node.classList.toggle("first", first);
    }
    clearTimeout(spoken);
    const told = answer ? [answer.prediction, sure].filter(Boolean).join(", ") : why;
    spoken = setTimeout(() => (part("spoken").textContent = told), SILENCE);
  };
}
