// The reader's API key, kept for this tab only, and the form that asks for it.

import { byId } from "./dom.js";

const NAME = "iris-api-key"; // known.js has it too.
const form = byId("door");
const field = byId("key");
const button = form.querySelector("button");

let current = withStorage((storage) => storage.getItem(NAME));
let refused = false;

export const key = () => current;

/** Forget a key, unless another has replaced it. */
export function forget(used = key()) {
  if (current !== used) return;
  current = null;
  withStorage((storage) => storage.removeItem(NAME));
}

/** Use the tab's storage. Where that is forbidden, the key lasts as long as the page. */
function withStorage(act) {
  try {
    return act(sessionStorage);
  } catch {
    return null;
  }
}

/** The key is valid: hide the form. */
export function accept() {
  showError("");
  field.value = "";
  form.hidden = true;
}

/** The key is not valid: forget it, and say so when asking for the next. */
export function refuse(used) {
  if (current === used) refused = true;
  forget(used);
}

/** Show the form, and wait until a key is entered. */
export function askForKey(signal) {
  document.documentElement.classList.remove("known");
  form.hidden = button.disabled = false;
  if (refused) {
    showError("The service does not know this key. Type it again, or ask the operator for another one.");
    field.focus();
    field.select();
  }
  return new Promise((resolve, reject) => {
    form.addEventListener("submit", resolve, { once: true, signal });
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

function showError(text) {
  byId("refused").textContent = text;
  field.setAttribute("aria-invalid", Boolean(text));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  current = field.value.trim();
  withStorage((storage) => storage.setItem(NAME, current));
  showError("");
  button.disabled = true; // Until there is an answer.
});
