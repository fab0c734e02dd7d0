// Asking while something changes: often, and never twice at once.

const EVERY = 120; // Milliseconds between two questions at least.

const rest = () => new Promise((resolve) => setTimeout(resolve, EVERY));

/** What calls `ask`, and once more after its answer if it was called meanwhile: the last values are
 * asked for at the end, and no answer comes after a later one. */
export function steady(ask) {
  let wanted = false, busy = false;
  return async () => {
    wanted = true;
    if (busy) return;
    busy = true;
    try {
      while (wanted) {
        wanted = false;
        await Promise.all([ask(), rest()]);
      }
    } finally {
      busy = false;
    }
  };
}
