import "@testing-library/jest-dom/vitest";
import { configure } from "@testing-library/react";

// For machines that have other things to do.
configure({ asyncUtilTimeout: 10_000 });
