import { useCallback, useSyncExternalStore } from "react";

/** Short enough that the countdown skips no second. */
const TICK_MILLISECONDS = 250;

/** Counts down the whole seconds until `time` (Unix milliseconds). 0 without a time. */
export function useSecondsLeft(time: number | undefined): number {
  const secondsLeft = () => (time === undefined ? 0 : Math.max(0, Math.ceil((time - Date.now()) / 1000)));
  const onTick = useCallback(
    (tick: () => void) => {
      if (time === undefined) return () => undefined;
      const timer = setInterval(() => {
        tick();
        if (Date.now() >= time) clearInterval(timer);
      }, TICK_MILLISECONDS);
      return () => clearInterval(timer);
    },
    [time],
  );
  return useSyncExternalStore(onTick, secondsLeft);
}
