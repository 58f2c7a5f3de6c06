/** The trace of one request. The page begins it, so that there is an id to quote even where no answer came. */
export interface Trace {
  id: string;
  /** The W3C header that carries it. It asks to be recorded: what is quoted to support should be there to be found. */
  traceparent: string;
}

/** A new one. */
export function newTrace(): Trace {
  const id = randomHex(16);
  return { id, traceparent: `00-${id}-${randomHex(8)}-01` };
}

function randomHex(bytes: number): string {
  const random = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
