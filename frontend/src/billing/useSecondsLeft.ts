import { useCallback, useSyncExternalStore } from "react";

/** Often enough that no second is skipped. */
const TICK_MILLISECONDS = 250;

/** Whole seconds until then, counted down; 0 when it is past, or when there is no such time. */
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
