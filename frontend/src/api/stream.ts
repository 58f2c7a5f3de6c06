import { streamSubscription, type Subscription } from "./generated";
import type { Client } from "./generated/client";
import { isSubscription } from "./subscription";
import { ApiError } from "./apiError";

/** The service sends the current state immediately. Without it, a proxy is buffering the stream. */
const FIRST_MESSAGE_TIMEOUT_SECONDS = 10;

/** Three heartbeat intervals. */
const SILENCE_TIMEOUT_SECONDS = 45;

export type StreamEnd =
  /** The service closed the stream with an `end` event. */
  | { kind: "closed" }
  /** The service answered with an error. */
  | { kind: "refused"; error: ApiError }
  /** The connection broke or was silent for too long. */
  | { kind: "broken" };

/**
 * Reads one stream until it ends. Uses `fetch` because an `EventSource` could send the token only
 * in the URL. The generated client parses the stream but does not reconnect: the caller decides
 * when.
 */
export async function readStream(
  client: Client,
  onSubscription: (subscription: Subscription) => void,
  signal: AbortSignal,
): Promise<StreamEnd> {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), FIRST_MESSAGE_TIMEOUT_SECONDS * 1000);
  let end: StreamEnd = { kind: "broken" };

  const { stream } = await streamSubscription({
    client,
    signal: AbortSignal.any([signal, silence.signal]),
    sseMaxRetryAttempts: 1,
    fetch: openOrThrow(client),
    headers: { Accept: "text/event-stream" },
    // Also called for heartbeats, which have neither name nor data.
    onSseEvent: ({ event, data }) => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_TIMEOUT_SECONDS * 1000);
      if (event === "subscription" && isSubscription(data)) onSubscription(data);
      if (event === "end") end = { kind: "closed" };
    },
    onSseError: (error) => {
      if (error instanceof ApiError) end = { kind: "refused", error };
    },
  });
  while (!(await stream.next()).done);
  clearTimeout(timer);
  return end;
}

/** Throws error responses as an `ApiError`. The generated client would keep only the status. */
function openOrThrow(client: Client): typeof fetch {
  const { fetch = globalThis.fetch } = client.getConfig();
  return async (input, init) => {
    const response = await fetch(input, init);
    if (response.ok) return response;
    const body: unknown = await response.json().catch(() => undefined);
    throw ApiError.fromResponse(response, body);
  };
}
