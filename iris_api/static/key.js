// The reader's key, kept for this tab only, and the form that asks for it.

import { part } from "./dom.js";

const NAME = "iris-api-key";
const door = part("door");

export const key = () => sessionStorage.getItem(NAME);

/** Let go of a key, unless another has taken its place meanwhile. */
export function forget(refused = key()) {
  if (key() === refused) sessionStorage.removeItem(NAME);
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
  sessionStorage.setItem(NAME, part("key").value.trim());
  part("key").value = "";
  door.hidden = true;
});
