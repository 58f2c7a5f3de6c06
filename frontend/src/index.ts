// With their endings: these paths get into the package's types, and not every compiler that reads them supplies one.
export type { GetToken, TokenRequest } from "./api/token.js";
export { BillingPage, type BillingPageProps } from "./pages/Billing.js";
