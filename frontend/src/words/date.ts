/** A day as the reader writes it. */
export interface DateWords {
  day: string;
  /** The whole of the time, for who wants to know. */
  exact: string;
  /** The language of both, which need not be the page's. */
  language: string | undefined;
}

/** A time as the service tells it, in the browser's own language and time zone. */
export function dateWords(time: string): DateWords {
  const date = new Date(time);
  // A time that the service should not have sent is shown as it is.
  if (Number.isNaN(date.getTime())) return { day: time, exact: time, language: undefined };
  const day = new Intl.DateTimeFormat(undefined, { dateStyle: "long" });
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  return { day: day.format(date), exact: exact.format(date), language: day.resolvedOptions().locale };
}
