import type { ReactNode } from "react";

import type { ApiError } from "../api/apiError";
import { errorCopy } from "../copy/error";
import { Notice } from "./Notice";
import { SupportCode } from "./SupportCode";

interface ErrorNoticeProps {
  error: ApiError;
  /** Whether a click on a button for Stripe's pages caused it. */
  isAfterClick?: boolean;
  /** Seconds before the next attempt is allowed. */
  waitSeconds: number;
  /** Buttons. */
  children?: ReactNode;
}

/** Explains an error, with a countdown and an id for support. */
export function ErrorNotice({ error, isAfterClick = false, waitSeconds, children }: ErrorNoticeProps) {
  const { title, text } = errorCopy(error, { isAfterClick });
  const canRetry = error.retryAt !== undefined && waitSeconds === 0;
  return (
    <Notice
      tone={error.code === "throttled" ? "warning" : "bad"}
      title={title}
      isUrgent
      footer={
        <>
          {waitSeconds > 0 && <Countdown seconds={waitSeconds} />}
          <SupportCode code={error.traceId} />
          {children}
        </>
      }
    >
      <p>{text}</p>
      {canRetry && <p>You can try again now.</p>}
    </Notice>
  );
}

/** Belongs into the footer: inside the alert, screen readers would announce every second. */
function Countdown({ seconds }: { seconds: number }) {
  return (
    <p>
      You can try again in <strong>{seconds === 1 ? "1 second" : `${seconds} seconds`}</strong>.
    </p>
  );
}
