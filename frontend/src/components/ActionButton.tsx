import { type ReactNode, useLayoutEffect, useRef } from "react";

interface ActionButtonProps {
  kind: "primary" | "plain";
  /** The label while the action is in progress. */
  progress: string | undefined;
  isBlocked: boolean;
  onPress: () => void;
  children: ReactNode;
}

/**
 * A button that ignores clicks while it is blocked. It uses `aria-disabled`, because a `disabled`
 * button would lose the keyboard focus and screen readers would skip it.
 */
export function ActionButton({ kind, progress, isBlocked, onPress, children }: ActionButtonProps) {
  const button = useRef<HTMLButtonElement>(null);
  useFocusHeadingOnUnmount(button);
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

/** Moves the focus to the page's heading when a focused button is removed. Otherwise it would jump to the top of the application. */
function useFocusHeadingOnUnmount(button: { current: HTMLButtonElement | null }): void {
  useLayoutEffect(() => {
    const element = button.current;
    return () => {
      if (element && element === document.activeElement) element.closest(".billhook")?.querySelector("h1")?.focus();
    };
  }, [button]);
}
