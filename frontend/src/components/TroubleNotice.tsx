import type { ReactNode } from "react";

import type { Trouble } from "../api/trouble";
import { troubleWords } from "../words/trouble";
import { Notice } from "./Notice";
import { SupportCode } from "./SupportCode";

interface TroubleNoticeProps {
  trouble: Trouble;
  /** Whether it came of a click on the way to Stripe's pages. */
  isOfClick?: boolean;
  /** Before so many seconds another try is of no use. */
  waitSeconds: number;
  /** What can be done about it. */
  children?: ReactNode;
}

/** What is wrong, what to do about it, when, and what to quote to support. */
export function TroubleNotice({ trouble, isOfClick = false, waitSeconds, children }: TroubleNoticeProps) {
  const { title, text } = troubleWords(trouble, { isOfClick });
  const isOver = trouble.retryAt !== undefined && waitSeconds === 0;
  return (
    <Notice
      tone={trouble.code === "throttled" ? "warning" : "bad"}
      title={title}
      isUrgent
      footer={
        <>
          {waitSeconds > 0 && <Wait seconds={waitSeconds} />}
          <SupportCode code={trouble.traceId} />
          {children}
        </>
      }
    >
      <p>{text}</p>
      {isOver && <p>You can try again now.</p>}
    </Notice>
  );
}

/** The time that is left, to be looked at. Stood it with the words, a screen reader would say every second of it. */
function Wait({ seconds }: { seconds: number }) {
  return (
    <p>
      You can try again in <strong>{seconds === 1 ? "1 second" : `${seconds} seconds`}</strong>.
    </p>
  );
}
