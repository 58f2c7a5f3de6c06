export type { GetToken, TokenRequest } from "./api/token";
export { BillingPage, type BillingPageProps } from "./pages/Billing";
