import { ApiError } from "./apiError";

export interface TokenRequest {
  /** The service has rejected the last token, so a cached one is not enough. */
  renew: boolean;
}

/** Returns the user's token. It is called for each request, so it should cache the token while it is valid. */
export type GetToken = (request: TokenRequest) => string | Promise<string>;

/**
 * A `fetch` that adds the user's token to each request. After a 401 it renews the token once and
 * sends the request again. Concurrent requests share one renewal.
 */
export function authorizedFetch(getToken: GetToken): typeof fetch {
  let renewal: Promise<string> | undefined;

  const renew = () => (renewal ??= tokenOf(getToken, true).finally(() => (renewal = undefined)));

  return async (input, init) => {
    const request = new Request(input, init);
    const response = await fetch(withToken(request, await unlessAborted(tokenOf(getToken, false), request.signal)));
    if (response.status !== 401) return response;
    await response.body?.cancel();
    return fetch(withToken(request, await unlessAborted(renew(), request.signal)));
  };
}

/** Rejects on abort, so that the request timeout also limits a `getToken` that never resolves. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

async function tokenOf(getToken: GetToken, renew: boolean): Promise<string> {
  try {
    return await getToken({ renew });
  } catch (error) {
    // `fetch` throws a TypeError when there is no network. All other errors mean that the user is
    // not signed in.
    throw error instanceof TypeError ? ApiError.unreachable() : ApiError.notAuthenticated();
  }
}

function withToken(request: Request, token: string): Request {
  const copy = request.clone();
  copy.headers.set("Authorization", `Bearer ${token}`);
  return copy;
}
