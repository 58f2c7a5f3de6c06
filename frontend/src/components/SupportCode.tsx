/** What support finds the matter by. */
export function SupportCode({ code }: { code: string | undefined }) {
  if (code === undefined) return null;
  return (
    <p className="billhook-small">
      If you contact support, quote <code className="billhook-code">{code}</code>
    </p>
  );
}
