// What the package is built from. The style sheet comes in here, since not every compiler that reads the package's types
// would know what to make of it there.
import "./pages/Billing.css";

export * from ".";
