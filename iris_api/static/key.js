// The reader's key, kept for this tab only, and the form that asks for it.

import { part } from "./dom.js";

const NAME = "iris-api-key";
const door = part("door");

let current = stored((storage) => storage.getItem(NAME));

export const key = () => current;

/** Let go of a key, unless another has taken its place meanwhile. */
export function forget(refused = key()) {
  if (current !== refused) return;
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

/** Ask for a key, and wait until there is one. After a refusal, go where it is asked for. */
export function given(signal, refused = false) {
  door.hidden = false;
  if (refused) part("key").focus();
  return new Promise((resolve, reject) => {
    door.addEventListener("submit", resolve, { once: true, signal });
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

door.addEventListener("submit", (event) => {
  event.preventDefault();
  current = part("key").value.trim();
  stored((storage) => storage.setItem(NAME, current));
  part("key").value = "";
  door.hidden = true;
});
