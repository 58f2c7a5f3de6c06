export interface DemoUser {
  tenant: string;
  /** A description of the tenant. */
  about: string;
  /** A development token. A real application gets it from its own sign-in. */
  token: string;
}

/** Reads the file that `scripts/demo.mjs` writes. Other deployments have none. */
export async function fetchDemoUsers(): Promise<DemoUser[]> {
  const response = await fetch("/demo-tokens.json", { cache: "no-store" });
  if (!response.ok) throw new Error(`demo-tokens.json: ${response.status}`);
  return (await response.json()) as DemoUser[];
}
