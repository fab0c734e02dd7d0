// Limits how often a changing page sends requests.

const INTERVAL = 120; // Milliseconds between two requests at least.

/** Runs `send` once at a time, and again if it was called meanwhile: the last values are always sent. */
export function throttled(send) {
  let pending = false, running = false;
  return async () => {
    pending = true;
    if (running) return;
    running = true;
    try {
      while (pending) {
        pending = false;
        await Promise.all([send(), new Promise((resolve) => setTimeout(resolve, INTERVAL))]);
      }
    } finally {
      running = false;
    }
  };
}
