// Hears from the server without end: one long poll after the other, and patience while the server is away.

import { Unreachable } from "./api.js";

const FIRST_PAUSE = 500; // milliseconds; doubled with every failure
const LONGEST_PAUSE = 5_000;
const LONG_POLL = 30_000;

/** Runs until `signal` is aborted. `heard(answer, first)` gets every answer; `status(online)` is called after each attempt. */
export async function listen({ api, signal, heard, status }) {
  let since = null;
  let pause = FIRST_PAUSE;
  let timeout = 0; // the first answer, and the first after a failure, come at once
  while (!signal.aborted) {
    try {
      const answer = await api.sync(since, timeout, signal);
      heard(answer, since === null);
      since = answer.next_batch;
      pause = FIRST_PAUSE;
      timeout = LONG_POLL;
      status(true);
    } catch (error) {
      if (signal.aborted) return;
      timeout = 0;
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
