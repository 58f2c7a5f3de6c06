import type { ReactNode } from "react";

import type { Trouble } from "../api/trouble";
import { troubleWords } from "../words/trouble";
import { Notice } from "./Notice";

interface TroubleNoticeProps {
  trouble: Trouble;
  /** Before so many seconds another try is of no use. */
  waitSeconds: number;
  children?: ReactNode;
}

/** What is wrong, what to do about it, when, and what to quote to support. */
export function TroubleNotice({ trouble, waitSeconds, children }: TroubleNoticeProps) {
  const { title, text } = troubleWords(trouble);
  return (
    <Notice tone={trouble.code === "throttled" ? "warning" : "bad"} title={title}>
      <p>{text}</p>
      {trouble.retryAt !== undefined && <Wait seconds={waitSeconds} />}
      {trouble.traceId && (
        <p className="billhook-small">
          For support: <code className="billhook-code">{trouble.traceId}</code>
        </p>
      )}
      {children}
    </Notice>
  );
}

/** The time that is left, for the eye. A screen reader is told when it is over, and not of every second. */
function Wait({ seconds }: { seconds: number }) {
  return seconds > 0 ? (
    <p aria-hidden="true">
      You can try again in <strong>{seconds === 1 ? "1 second" : `${seconds} seconds`}</strong>.
    </p>
  ) : (
    <p>You can try again now.</p>
  );
}
