/**
 * A time as the service tells it, in the reader's own time zone: the day, and the whole of it for who wants to know. The
 * page speaks English, and so do its dates: in the reader's own kind of it, where the browser names one.
 */
export function dateWords(time: string): { day: string; exact: string } {
  const date = new Date(time);
  // A time that the service should not have sent is shown as it is.
  if (Number.isNaN(date.getTime())) return { day: time, exact: time };
  const locale = navigator.languages.find((language) => /^en\b/.test(language)) ?? "en";
  return {
    day: new Intl.DateTimeFormat(locale, { dateStyle: "long" }).format(date),
    exact: new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "long" }).format(date),
  };
}
