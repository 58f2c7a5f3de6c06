// The entry of the package build. The style sheet is imported here and not in `index.ts`, because
// not every compiler that reads the package's types accepts CSS imports.
import "./pages/Billing.css";

export * from ".";
