import type { Code, Problem } from "./generated";

/** The service's problem codes, and two codes for requests that the service did not answer. */
export type ErrorCode = Code | "unreachable" | "invalid_response";

/** The wait after a 429 without `Retry-After`. */
const DEFAULT_RETRY_SECONDS = 30;

/** Longer values of `Retry-After` are capped: the page would seem broken. */
const MAX_RETRY_SECONDS = 60 * 60;

/** An error that the page can explain to the user. */
export class ApiError extends Error {
  readonly code: ErrorCode;
  /** The trace id to quote to support. */
  readonly traceId: string | undefined;
  /** The time, in Unix milliseconds, before which a retry is useless. */
  readonly retryAt: number | undefined;

  private constructor(code: ErrorCode, traceId?: string, retryAt?: number) {
    super(code);
    this.name = "ApiError";
    this.code = code;
    this.traceId = traceId;
    this.retryAt = retryAt;
  }

  /** An error response of the service, or of a proxy, which has no trace id in its body. */
  static fromResponse(response: Response, body: unknown, traceId?: string): ApiError {
    const problem = isProblem(body) ? body : undefined;
    const code = problem?.code ?? codeOfStatus(response.status);
    const seconds = retrySeconds(response, code);
    const retryAt = seconds === undefined ? undefined : Date.now() + seconds * 1000;
    return new ApiError(code, problem?.trace_id ?? traceId, retryAt);
  }

  /** No response in time. */
  static unreachable(traceId?: string): ApiError {
    return new ApiError("unreachable", traceId);
  }

  /** A response that is not from the service: a wrong URL, or a network with a login page. */
  static invalidResponse(traceId?: string): ApiError {
    return new ApiError("invalid_response", traceId);
  }

  /** The application gave no token. */
  static notAuthenticated(): ApiError {
    return new ApiError("not_authenticated");
  }

  /** Keeps the first trace id while the same error repeats: the user may be quoting it to support. */
  keepingTraceIdOf(earlier: ApiError | undefined): ApiError {
    return earlier?.code === this.code ? new ApiError(this.code, earlier.traceId, this.retryAt) : this;
  }

  /** Whether the user must sign in, or lacks the access: another user or role may have it. */
  get isSignInOrAccessError(): boolean {
    return this.code === "not_authenticated" || this.code === "not_allowed";
  }
}

function isProblem(body: unknown): body is Problem {
  if (typeof body !== "object" || body === null) return false;
  const { code, trace_id } = body as Partial<Problem>;
  return typeof code === "string" && (trace_id === undefined || typeof trace_id === "string");
}

/** The code for the error response of a proxy. */
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

function retrySeconds(response: Response, code: ErrorCode): number | undefined {
  const seconds = Number(response.headers.get("Retry-After") ?? Number.NaN);
  if (Number.isFinite(seconds) && seconds > 0) return Math.min(seconds, MAX_RETRY_SECONDS);
  return code === "throttled" ? DEFAULT_RETRY_SECONDS : undefined;
}
