import type { ReactNode } from "react";

import type { Tone } from "../copy/plan";

interface NoticeProps {
  tone: Tone;
  title: string;
  /** Whether to show a spinner. */
  isBusy?: boolean;
  /** Whether screen readers announce it at once. Later they announce only what changes in it. */
  isUrgent?: boolean;
  children?: ReactNode;
  /** Content that screen readers do not announce. */
  footer?: ReactNode;
}

export function Notice({ tone, title, isBusy = false, isUrgent = false, children, footer }: NoticeProps) {
  return (
    <div className="billhook-notice" data-tone={tone}>
      <div className="billhook-notice-text" {...(isUrgent && { role: "alert", "aria-atomic": false })}>
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
