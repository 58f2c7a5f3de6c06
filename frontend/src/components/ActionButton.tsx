import { type ReactNode, useLayoutEffect, useRef } from "react";

interface ActionButtonProps {
  kind: "primary" | "plain";
  /** What is said while it is being done; else it is not being done. */
  progress: string | undefined;
  /** Whether a click would do nothing now. */
  isBlocked: boolean;
  onPress: () => void;
  children: ReactNode;
}

/**
 * A button that does one thing once. While it is blocked it can still be reached: a button that is `disabled` would throw
 * the keyboard's focus away, and a screen reader would not find it again.
 */
export function ActionButton({ kind, progress, isBlocked, onPress, children }: ActionButtonProps) {
  const button = useRef<HTMLButtonElement>(null);
  useHandsFocusOn(button);
  return (
    <button
      ref={button}
      type="button"
      className="billhook-button"
      data-kind={kind}
      aria-disabled={isBlocked}
      aria-busy={progress !== undefined}
      onClick={() => {
        if (!isBlocked) onPress();
      }}
    >
      {progress !== undefined && <span className="billhook-spinner" aria-hidden="true" />}
      {progress ?? children}
    </button>
  );
}

/**
 * A button that has done its work goes away, and would take the keyboard's focus along: to the top of the application.
 * It goes to the page's heading instead.
 */
function useHandsFocusOn(button: { current: HTMLButtonElement | null }): void {
  useLayoutEffect(() => {
    const leaving = button.current;
    return () => {
      if (leaving && leaving === document.activeElement) leaving.closest(".billhook")?.querySelector("h1")?.focus();
    };
  }, [button]);
}
