import { cleanup, render, type RenderOptions, type RenderResult } from "@testing-library/react";
import userEvent, { type UserEvent } from "@testing-library/user-event";
import { afterEach, beforeEach, type Mock, vi } from "vitest";

import { BillingPage, type BillingPageProps, type GetToken } from "../src";
import { StandIn } from "./standIn";

/** What a test of the page has at hand. */
export interface Stage {
  service: StandIn;
  user: UserEvent;
  /** Where the browser was sent; the one thing that jsdom cannot do. */
  assign: Mock<(url: string) => void>;
  getToken: Mock<GetToken>;
  /** Opens the page at this address. */
  open: (query?: string, props?: Partial<BillingPageProps>, options?: RenderOptions) => RenderResult;
}

/** A service for each test, and a page that asks it. */
export function useStage(): Stage {
  const stage = {} as Stage;

  beforeEach(async () => {
    const service = await StandIn.start();
    const assign = vi.fn<(url: string) => void>();
    const { location } = window;
    const get = (_: object, name: string) => (name === "assign" ? assign : (Reflect.get(location, name) as unknown));
    vi.stubGlobal("location", new Proxy({}, { get }));
    const getToken = vi.fn<GetToken>(() => "good-token");
    const open: Stage["open"] = (query = "", props = {}, options = {}) => {
      window.history.replaceState(null, "", `/billing${query}`);
      return render(<BillingPage apiBase={service.url} getToken={getToken} {...props} />, options);
    };
    Object.assign(stage, { service, assign, getToken, open, user: userEvent.setup() });
  });

  afterEach(async () => {
    cleanup();
    vi.useRealTimers();
    await stage.service.stop();
  });

  return stage;
}
