export interface FormattedDate {
  day: string;
  /** With weekday, time and time zone. */
  exact: string;
  /** The language of both texts, which can differ from the page's. */
  language: string | undefined;
}

/** Formats a timestamp of the service in the browser's language and time zone. */
export function formatDate(time: string): FormattedDate {
  const date = new Date(time);
  // An invalid timestamp is shown as it is.
  if (Number.isNaN(date.getTime())) return { day: time, exact: time, language: undefined };
  const day = new Intl.DateTimeFormat(undefined, { dateStyle: "long" });
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  return { day: day.format(date), exact: exact.format(date), language: day.resolvedOptions().locale };
}
