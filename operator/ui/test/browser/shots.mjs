// Pictures of every page in both themes, to look at: node test/browser/shots.mjs FOLDER [PAGE…]
import { mkdir } from "node:fs/promises";
import { launch } from "./browser.mjs";
import { PAGES } from "./pages.mjs";
import { serve } from "../fixture/server.mjs";

const [folder, ...only] = process.argv.slice(2);
await mkdir(folder, { recursive: true });
const server = await serve();
const browser = await launch();
for (const theme of ["light", "dark"]) {
  const context = await browser.newContext({
    colorScheme: theme,
    viewport: { width: 1280, height: 860 },
    locale: "en-GB",
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => console.log("error", error.message));
  page.on("console", (message) => {
    if (message.type() === "error") console.log(message.text());
  });
  for (const [name, path, prepare] of PAGES) {
    if (only.length && !only.includes(name)) continue;
    await page.goto(server.address + path, { waitUntil: "networkidle" });
    if (prepare) await prepare(page);
    await page.waitForTimeout(150);
    await page.screenshot({ path: `${folder}/${name}-${theme}.png`, fullPage: true });
  }
  if (theme === "light" && !only.length) {
    await page.setViewportSize({ width: 360, height: 720 });
    for (const [name, path] of PAGES) {
      await page.goto(server.address + path, { waitUntil: "networkidle" });
      await page.screenshot({ path: `${folder}/${name}-narrow.png` });
    }
  }
}
await browser.close();
await server.close();
