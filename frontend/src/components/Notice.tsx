import type { ReactNode } from "react";

import type { Tone } from "../words/plan";

interface NoticeProps {
  tone: Tone;
  title: string;
  /** Whether it is about something that is still going on. */
  isBusy?: boolean;
  children?: ReactNode;
}

/** Something that the reader should know before anything else. */
export function Notice({ tone, title, isBusy = false, children }: NoticeProps) {
  return (
    <div className="billhook-notice" data-tone={tone}>
      <p className="billhook-notice-title">
        {isBusy && <span className="billhook-spinner" aria-hidden="true" />}
        {title}
      </p>
      {children}
    </div>
  );
}
