import type { ReactNode } from "react";

import type { Tone } from "../words/plan";

interface NoticeProps {
  tone: Tone;
  title: string;
  /** Whether it is about something that is still going on. */
  isBusy?: boolean;
  /** Whether a screen reader should say it at once. Of a change in it only the change is said. */
  isUrgent?: boolean;
  children?: ReactNode;
  /** What stands with it to be used, and not to be said. */
  footer?: ReactNode;
}

/** Something that the reader should know before anything else. */
export function Notice({ tone, title, isBusy = false, isUrgent = false, children, footer }: NoticeProps) {
  return (
    <div className="billhook-notice" data-tone={tone}>
      <div className="billhook-notice-words" {...(isUrgent && { role: "alert", "aria-atomic": false })}>
        <p className="billhook-notice-title">
          {isBusy && <span className="billhook-spinner" aria-hidden="true" />}
          {title}
        </p>
        {children}
      </div>
      {footer}
    </div>
  );
}
