// The reader's key, kept for this tab only, and the form that asks for it.

import { part } from "./dom.js";

const NAME = "iris-api-key"; // In known.js too.
const door = part("door");
const field = part("key");
const button = door.querySelector("button");

let current = stored((storage) => storage.getItem(NAME));
let refused = false;

export const key = () => current;

/** Let go of a key, unless another has taken its place meanwhile. */
export function forget(used = key()) {
  if (current !== used) return;
  current = null;
  stored((storage) => storage.removeItem(NAME));
}

/** Where nothing may be stored, the key lasts as long as the page. */
function stored(act) {
  try {
    return act(sessionStorage);
  } catch {
    return null;
  }
}

/** A key was right: it is asked for no more. */
export function accepted() {
  tell("");
  field.value = "";
  door.hidden = true;
}

/** A key was not: it is let go of, and that is told where the next one is asked for. */
export function refuse(used) {
  if (current === used) refused = true;
  forget(used);
}

/** Ask for a key, and wait until there is one. */
export function given(signal) {
  document.documentElement.classList.remove("known");
  door.hidden = button.disabled = false;
  if (refused) {
    tell("The service does not know this key. Type it again, or ask the operator for another one.");
    field.focus();
    field.select();
  }
  return new Promise((resolve, reject) => {
    door.addEventListener("submit", resolve, { once: true, signal });
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

function tell(text) {
  part("refused").textContent = text;
  field.setAttribute("aria-invalid", Boolean(text));
}

door.addEventListener("submit", (event) => {
  event.preventDefault();
  current = field.value.trim();
  stored((storage) => storage.setItem(NAME, current));
  tell("");
  button.disabled = true; // Until there is an answer.
});
