/** The trace of one request. The page starts it, so that there is an id to quote even without a response. */
export interface Trace {
  id: string;
  /** The W3C header. Its sampled flag is set, so that support can find the trace. */
  traceparent: string;
}

export function newTrace(): Trace {
  const id = randomHex(16);
  return { id, traceparent: `00-${id}-${randomHex(8)}-01` };
}

function randomHex(bytes: number): string {
  const random = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
