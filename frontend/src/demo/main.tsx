import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import "../pages/Billing.css";
import { Demo } from "./Demo";
import { fetchDemoUsers } from "./tokens";
import "./demo.css";

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no #root");

const users = await fetchDemoUsers().catch(() => []);
createRoot(root).render(
  <StrictMode>
    <Demo users={users} />
  </StrictMode>,
);
