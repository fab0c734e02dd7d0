// The answer: class, confidence and a bar for each class, that change in place.

import { mark } from "./chart.js";
import { element, part, shape } from "./dom.js";

const SILENCE = 800; // Milliseconds without a change before a screen reader is told.

export const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

/** Make a bar for each class, and give what shows an answer in them. */
export function bars(classes) {
  const made = classes.map((name, i) => {
    const bar = element("span", { class: `bar c${i % 6}` });
    const figure = element("span", { class: "figure" });
    const legend = shape("svg", { viewBox: "-6 -6 12 12", "aria-hidden": "true" }, mark(i));
    const node = element("li", {}, legend, element("bdi", {}, name), element("span", { class: "rail" }, bar), figure);
    return { name, node, bar, figure };
  });
  part("bars").replaceChildren(...made.map(({ node }) => node));
  if (made.length > 3) part("bars").tabIndex = 0; // It scrolls where there is little room.
  let spoken;

  /** Show an answer, or with none that there is none. */
  return (answer) => {
    const sure = answer?.confidence === undefined ? "" : `${percent(answer.confidence)} confident`;
    part("prediction").firstChild.textContent = answer?.prediction ?? "–";
    part("confidence").textContent = sure || "\u00a0";
    for (const { name, node, bar, figure } of made) {
      const share = answer?.probabilities?.[name] ?? 0;
      bar.style.width = `${100 * share}%`;
      figure.textContent = answer ? percent(share) : "–";
      node.classList.toggle("first", name === answer?.prediction);
    }
    clearTimeout(spoken);
    const told = answer ? [answer.prediction, sure].filter(Boolean).join(", ") : "";
    spoken = setTimeout(() => (part("spoken").textContent = told), SILENCE);
  };
}
