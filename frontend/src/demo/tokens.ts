/** Somebody to look at the page as. */
export interface DemoUser {
  tenant: string;
  /** What there is to see. */
  about: string;
  /** A token for development. A real application gets its own from where its users sign in. */
  token: string;
}

/** Reads the file that `scripts/demo.mjs` writes beside this page. No other deployment has one. */
export async function fetchDemoUsers(): Promise<DemoUser[]> {
  const answer = await fetch("/demo-tokens.json", { cache: "no-store" });
  if (!answer.ok) throw new Error(`demo-tokens.json: ${answer.status}`);
  return (await answer.json()) as DemoUser[];
}
