import { Trouble } from "./trouble";

/** What a token is asked for with. */
export interface TokenRequest {
  /** The service has just refused the token that it was given: a kept one will not do. */
  renew: boolean;
}

/** Gives the user's token. It is asked for each request, so it should keep the token while it is good. */
export type GetToken = (request: TokenRequest) => string | Promise<string>;

/**
 * A `fetch` that signs each request with the user's token. A token that is refused is asked for anew once; requests
 * that are refused at the same time ask once together.
 */
export function authorizedFetch(getToken: GetToken): typeof fetch {
  let renewal: Promise<string> | undefined;

  const renew = () => (renewal ??= tokenOf(getToken, true).finally(() => (renewal = undefined)));

  return async (input, init) => {
    const request = new Request(input, init);
    const answer = await fetch(signed(request, await unlessAborted(tokenOf(getToken, false), request.signal)));
    if (answer.status !== 401) return answer;
    await answer.body?.cancel();
    return fetch(signed(request, await unlessAborted(renew(), request.signal)));
  };
}

/** An application that never comes back with a token must not keep the page waiting for longer than the service may. */
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
    // A TypeError is what fetch throws when there is no network. Why else the application has no token is its own
    // business; to the page it means that nobody is signed in.
    throw error instanceof TypeError ? Trouble.unreachable() : Trouble.notAuthenticated();
  }
}

function signed(request: Request, token: string): Request {
  const copy = request.clone();
  copy.headers.set("Authorization", `Bearer ${token}`);
  return copy;
}
