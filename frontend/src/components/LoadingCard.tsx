/** The placeholder for the plan while it loads. */
export function LoadingCard() {
  return (
    <div className="billhook-card">
      <p className="billhook-small">Your plan</p>
      <div className="billhook-plan">
        <span className="billhook-placeholder" data-size="large" />
      </div>
      <span className="billhook-placeholder" />
      <div className="billhook-actions">
        <span className="billhook-placeholder" data-size="button" />
      </div>
      <p role="status" className="billhook-visually-hidden">
        Loading your plan…
      </p>
    </div>
  );
}
