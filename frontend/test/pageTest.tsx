import { cleanup, render, type RenderOptions, type RenderResult } from "@testing-library/react";
import userEvent, { type UserEvent } from "@testing-library/user-event";
import { afterEach, beforeEach, type Mock, vi } from "vitest";

import { BillingPage, type BillingPageProps, type GetToken } from "../src";
import { FakeService } from "./fakeService";

/** The page under test with its service. */
export interface PageTest {
  service: FakeService;
  user: UserEvent;
  /** `location.assign`, because jsdom cannot navigate. */
  assign: Mock<(url: string) => void>;
  getToken: Mock<GetToken>;
  /** Renders the page at a URL with this query. */
  open: (query?: string, props?: Partial<BillingPageProps>, options?: RenderOptions) => RenderResult;
}

/** Starts a fake service for each test and stops it afterwards. */
export function usePageTest(): PageTest {
  const page = {} as PageTest;

  beforeEach(async () => {
    const service = await FakeService.start();
    const assign = vi.fn<(url: string) => void>();
    const { location } = window;
    const get = (_: object, name: string) => (name === "assign" ? assign : (Reflect.get(location, name) as unknown));
    vi.stubGlobal("location", new Proxy({}, { get }));
    const getToken = vi.fn<GetToken>(() => "good-token");
    const open: PageTest["open"] = (query = "", props = {}, options = {}) => {
      window.history.replaceState(null, "", `/billing${query}`);
      return render(<BillingPage apiBase={service.url} getToken={getToken} {...props} />, options);
    };
    Object.assign(page, { service, assign, getToken, open, user: userEvent.setup() });
  });

  afterEach(async () => {
    cleanup();
    vi.useRealTimers();
    await page.service.stop();
  });

  return page;
}
