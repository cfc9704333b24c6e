// Hears from the server without end: one long poll after the other, and patience while the server is away.

import { MatrixError, Unreachable } from "./api.js";

const FIRST_PAUSE = 500; // milliseconds; doubled with every failure
const LONGEST_PAUSE = 8_000;

/** Runs until `signal` is aborted or the server does not know the session any more.
 *  `heard(answer)` gets every answer, `status(online)` every change, `gone()` is called at an unknown session. */
export async function listen({ api, signal, heard, status, gone }) {
  let since = null;
  let pause = FIRST_PAUSE;
  while (!signal.aborted) {
    try {
      const answer = await api.sync(since, signal);
      heard(answer, since === null);
      since = answer.next_batch;
      pause = FIRST_PAUSE;
      status(true);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof MatrixError && error.status === 401) return gone();
      if (error instanceof Unreachable) status(false);
      else console.error(error);
      await pauseFor(pause, signal);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  }
}

/** Wait, but no longer than until the browser has a network again or somebody looks at the page. */
function pauseFor(milliseconds, signal) {
  return new Promise((done) => {
    const events = new AbortController();
    const end = () => {
      clearTimeout(timer);
      events.abort();
      done();
    };
    const timer = setTimeout(end, milliseconds);
    window.addEventListener("online", end, { signal: events.signal });
    document.addEventListener("visibilitychange", end, { signal: events.signal });
    signal.addEventListener("abort", end, { signal: events.signal });
  });
}
