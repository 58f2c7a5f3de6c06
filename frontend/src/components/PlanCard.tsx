import { type ReactNode, useId } from "react";

import { dateWords } from "../words/date";
import type { Fact, PlanWords } from "../words/plan";

interface PlanCardProps {
  words: PlanWords;
  /** What can be done about it. */
  children: ReactNode;
}

/** The plan, how it stands, and what is known about it. */
export function PlanCard({ words, children }: PlanCardProps) {
  const id = useId();
  return (
    <section className="billhook-card" aria-labelledby={id}>
      <p className="billhook-small">Your plan</p>
      {/* It can change under the reader's eyes, and should under a screen reader's too. */}
      <div aria-live="polite">
        <div className="billhook-plan">
          <h2 id={id}>{words.name}</h2>
          <span className="billhook-badge" data-tone={words.badge.tone}>
            {words.badge.text}
          </span>
        </div>
        <p>{words.sentence}</p>
      </div>
      {words.facts.length > 0 && (
        <dl className="billhook-facts">
          {words.facts.map((fact) => (
            <FactLine key={fact.term} fact={fact} />
          ))}
        </dl>
      )}
      {children}
    </section>
  );
}

function FactLine({ fact }: { fact: Fact }) {
  return (
    <div>
      <dt>{fact.term}</dt>
      <dd>{"date" in fact ? <Day time={fact.date} /> : fact.text}</dd>
    </div>
  );
}

function Day({ time }: { time: string }) {
  const { day, exact, language } = dateWords(time);
  return (
    <time dateTime={time} title={exact} lang={language} dir="auto">
      {day}
    </time>
  );
}
