import { streamSubscription, type Subscription } from "./generated";
import type { Client } from "./generated/client";
import { isSubscription } from "./subscription";
import { Trouble } from "./trouble";

/** The service sends the present state at once, so a stream that stays silent from the start is held up on its way. */
const FIRST_MESSAGE_SECONDS = 10;

/** Three heartbeats: a connection that misses them is dead, though nobody closed it. */
const SILENCE_SECONDS = 45;

/** How a stream ended. */
export type StreamEnd =
  /** The service had a reason to close it, and said so. */
  | { kind: "closed" }
  /** The service did not open it. */
  | { kind: "refused"; trouble: Trouble }
  /** It was cut off, or has fallen silent. */
  | { kind: "broken" };

/**
 * Reads one stream until it ends. By `fetch` and not by an `EventSource`, which could send the token in a URL only; the
 * generated client brings the parser. When to come back is the caller's business, so the client is not to try again.
 */
export async function readStream(
  client: Client,
  onSubscription: (subscription: Subscription) => void,
  signal: AbortSignal,
): Promise<StreamEnd> {
  const silence = new AbortController();
  let watch = setTimeout(() => silence.abort(), FIRST_MESSAGE_SECONDS * 1000);
  let end: StreamEnd = { kind: "broken" };

  const { stream } = await streamSubscription({
    client,
    signal: AbortSignal.any([signal, silence.signal]),
    sseMaxRetryAttempts: 1,
    fetch: openOrThrow(client),
    headers: { Accept: "text/event-stream" },
    // Heartbeats come here too, without a name and without data.
    onSseEvent: ({ event, data }) => {
      clearTimeout(watch);
      watch = setTimeout(() => silence.abort(), SILENCE_SECONDS * 1000);
      if (event === "subscription" && isSubscription(data)) onSubscription(data);
      if (event === "end") end = { kind: "closed" };
    },
    onSseError: (error) => {
      if (error instanceof Trouble) end = { kind: "refused", trouble: error };
    },
  });
  while (!(await stream.next()).done);
  clearTimeout(watch);
  return end;
}

/** The generated client keeps nothing of a refusal but its status; the page needs the problem. */
function openOrThrow(client: Client): typeof fetch {
  const { fetch = globalThis.fetch } = client.getConfig();
  return async (input, init) => {
    const response = await fetch(input, init);
    if (response.ok) return response;
    const body: unknown = await response.json().catch(() => undefined);
    throw Trouble.answered(response, body);
  };
}
