import { type ReactNode, useId } from "react";

import { formatDate } from "../copy/date";
import type { PlanCopy } from "../copy/plan";

interface PlanCardProps {
  copy: PlanCopy;
  /** The buttons. */
  children: ReactNode;
}

export function PlanCard({ copy, children }: PlanCardProps) {
  const id = useId();
  return (
    <section className="billhook-card" aria-labelledby={id}>
      <p className="billhook-small">Your plan</p>
      {/* Screen readers announce changes of the plan. */}
      <div aria-live="polite">
        <div className="billhook-plan">
          <h2 id={id}>{copy.name}</h2>
          <span className="billhook-badge" data-tone={copy.badge.tone}>
            {copy.badge.text}
          </span>
        </div>
        <p>{copy.sentence}</p>
      </div>
      {copy.details.length > 0 && (
        <dl className="billhook-details">
          {copy.details.map((detail) => (
            <div key={detail.term}>
              <dt>{detail.term}</dt>
              <dd>{"date" in detail ? <Day time={detail.date} /> : detail.text}</dd>
            </div>
          ))}
        </dl>
      )}
      {children}
    </section>
  );
}

function Day({ time }: { time: string }) {
  const { day, exact, language } = formatDate(time);
  return (
    <time dateTime={time} title={exact} lang={language} dir="auto">
      {day}
    </time>
  );
}
