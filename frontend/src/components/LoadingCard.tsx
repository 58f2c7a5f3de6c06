/** The place of the plan while nothing is known of it. */
export function LoadingCard() {
  return (
    <div className="billhook-card">
      <p className="billhook-small">Your plan</p>
      <div className="billhook-plan">
        <span className="billhook-blank" data-size="large" />
      </div>
      <span className="billhook-blank" />
      <div className="billhook-actions">
        <span className="billhook-blank" data-size="button" />
      </div>
      <p role="status" className="billhook-unseen">
        Loading your plan…
      </p>
    </div>
  );
}
