import type { Code, Problem } from "./generated";

/** What can go wrong: the service's own codes, and the two cases in which it is not the service that answers. */
export type TroubleCode = Code | "unreachable" | "unintelligible";

/** How long to wait where a 429 does not say. */
const THROTTLED_SECONDS = 30;

/** A longer wait than this is believed of nobody: a person would take the page for broken. */
const LONGEST_WAIT_SECONDS = 60 * 60;

/** Why there is no answer, in the form that the page can explain. */
export class Trouble extends Error {
  readonly code: TroubleCode;
  /** The id to quote to support. */
  readonly traceId: string | undefined;
  /** Before this time, in milliseconds, there is no use in trying again. */
  readonly retryAt: number | undefined;

  private constructor(code: TroubleCode, traceId?: string, waitSeconds?: number) {
    super(code);
    this.name = "Trouble";
    this.code = code;
    this.traceId = traceId;
    this.retryAt = waitSeconds === undefined ? undefined : Date.now() + waitSeconds * 1000;
  }

  /** The service said no. */
  static answered(response: Response, body: unknown): Trouble {
    const problem = isProblem(body) ? body : undefined;
    const code = problem?.code ?? codeOfStatus(response.status);
    return new Trouble(code, problem?.trace_id, waitSeconds(response, code));
  }

  /** Nobody answered in time. */
  static unreachable(): Trouble {
    return new Trouble("unreachable");
  }

  /** Somebody answered, but not the service: a wrong address, or a network that wants a login first. */
  static unintelligible(): Trouble {
    return new Trouble("unintelligible");
  }

  /** The application gave no token. */
  static notAuthenticated(): Trouble {
    return new Trouble("not_authenticated");
  }

  /** Whether only the user can end it, by signing in again or as somebody else. */
  get needsSignIn(): boolean {
    return this.code === "not_authenticated" || this.code === "not_allowed";
  }
}

function isProblem(body: unknown): body is Problem {
  return typeof body === "object" && body !== null && "code" in body && typeof body.code === "string";
}

/** What a proxy in front of the service means, which knows nothing of our codes. */
function codeOfStatus(status: number): Code {
  switch (status) {
    case 401:
      return "not_authenticated";
    case 403:
      return "not_allowed";
    case 404:
      return "not_found";
    case 429:
      return "throttled";
    case 502:
    case 503:
    case 504:
      return "unavailable";
    default:
      return "internal";
  }
}

function waitSeconds(response: Response, code: TroubleCode): number | undefined {
  const seconds = Number(response.headers.get("Retry-After") ?? Number.NaN);
  if (Number.isFinite(seconds) && seconds > 0) return Math.min(seconds, LONGEST_WAIT_SECONDS);
  return code === "throttled" ? THROTTLED_SECONDS : undefined;
}
