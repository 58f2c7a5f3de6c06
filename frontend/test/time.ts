import { act } from "@testing-library/react";
import { vi } from "vitest";

const LONGEST_SECONDS = 20;

/** Time passes at its own speed, and faster when a test says so. What goes over the network takes its own time still. */
export function useFastTime(): void {
  vi.useFakeTimers({
    shouldAdvanceTime: true,
    toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date"],
  });
}

/** So many seconds pass, one after the other. */
export async function pass(seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second += 1) {
    await act(() => vi.advanceTimersByTimeAsync(1000));
    // Answers that are on their way through real sockets need turns of the real loop.
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }
}

/** As many seconds pass as it takes. */
export async function passUntil(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + LONGEST_SECONDS * 1000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`in vain: ${String(holds)}`);
    await pass(1);
  }
}
