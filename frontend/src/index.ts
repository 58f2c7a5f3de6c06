// The paths have extensions because they end up in the package's types, and not every compiler adds
// extensions.
export type { GetToken, TokenRequest } from "./api/token.js";
export { BillingPage, type BillingPageProps } from "./pages/Billing.js";
