/** The id by which support finds the request or checkout. */
export function SupportCode({ code }: { code: string | undefined }) {
  if (code === undefined) return null;
  return (
    <p className="billhook-small">
      If you contact support, quote <code className="billhook-code">{code}</code>
    </p>
  );
}
