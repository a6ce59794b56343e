// The system's Chromium, without a window, and pages over worlds of their own.
import { chromium } from "playwright-core";
import { serve } from "../fixture/server.mjs";

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-gpu"],
  });

/** A page of its own over a world of its own. */
export async function withPage(browser, { mode = "full", ...options }, act) {
  const server = await serve({ mode });
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, locale: "en-GB", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(8000);
  try {
    await act(page, server);
  } finally {
    await context.close();
    await server.close();
  }
}
