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

  private constructor(code: TroubleCode, traceId?: string, retryAt?: number) {
    super(code);
    this.name = "Trouble";
    this.code = code;
    this.traceId = traceId;
    this.retryAt = retryAt;
  }

  /** The service said no, or somebody before it did who knows of no trace. */
  static answered(response: Response, body: unknown, traceId?: string): Trouble {
    const problem = isProblem(body) ? body : undefined;
    const code = problem?.code ?? codeOfStatus(response.status);
    const seconds = waitSeconds(response, code);
    const retryAt = seconds === undefined ? undefined : Date.now() + seconds * 1000;
    return new Trouble(code, problem?.trace_id ?? traceId, retryAt);
  }

  /** Nobody answered in time. */
  static unreachable(traceId?: string): Trouble {
    return new Trouble("unreachable", traceId);
  }

  /** Somebody answered, but not the service: a wrong address, or a network that wants a login first. */
  static unintelligible(traceId?: string): Trouble {
    return new Trouble("unintelligible", traceId);
  }

  /** The application gave no token. */
  static notAuthenticated(): Trouble {
    return new Trouble("not_authenticated");
  }

  /** The same trouble once more keeps the id that was first: somebody may be reading it out just now. */
  after(earlier: Trouble | undefined): Trouble {
    return earlier?.code === this.code ? new Trouble(this.code, earlier.traceId, this.retryAt) : this;
  }

  /** Whether only the user can end it, by signing in again or as somebody else. */
  get needsSignIn(): boolean {
    return this.code === "not_authenticated" || this.code === "not_allowed";
  }
}

function isProblem(body: unknown): body is Problem {
  if (typeof body !== "object" || body === null) return false;
  const { code, trace_id } = body as Partial<Problem>;
  return typeof code === "string" && (trace_id === undefined || typeof trace_id === "string");
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
