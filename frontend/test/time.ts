import { act } from "@testing-library/react";
import { vi } from "vitest";

/** Real time. */
const TIMEOUT_SECONDS = 20;

/** Fake timers that follow real time and that `advance` can advance. Network requests still take real time. */
export function useFastTime(): void {
  vi.useFakeTimers({
    shouldAdvanceTime: true,
    toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date"],
  });
}

/** Advances the time second by second. */
export async function advance(seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second += 1) {
    await act(() => vi.advanceTimersByTimeAsync(1000));
    // Responses on real sockets need turns of the event loop.
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Advances the time until the condition holds. */
export async function advanceUntil(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + TIMEOUT_SECONDS * 1000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`timeout: ${String(holds)}`);
    await advance(1);
  }
}
