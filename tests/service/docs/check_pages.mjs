// node check_pages.mjs FOLDER_OF_NODE_MODULES URL [SCREENSHOT_FOLDER] <<<'{"all": [], "sample": []}'
//
// Looks at pages in real Chromium: all of them at two widths, and the sample also in the dark, without
// scripts and with axe-core. Prints the faults as JSON, an array of texts. See test_browser.py.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [folder, address, pictures] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const { all: ALL, sample: SAMPLE } = JSON.parse(readFileSync(0, "utf8"));
const TALLEST = 12_000;
const PHONE = { width: 390, height: 844 };
const LAPTOP = { width: 1280, height: 900 };
const faults = [];

/** The faults of the page in its present form; runs in the page. */
function inspect(tallest) {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) found.push(`is ${root.scrollWidth} px wide`);
  if (root.scrollHeight > tallest) found.push(`is ${root.scrollHeight} px tall`);
  for (const cell of document.querySelectorAll("td, th")) {
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      for (const match of texts.currentNode.data.matchAll(/[\p{L}\p{N}_]+/gu)) {
        const range = document.createRange();
        range.setStart(texts.currentNode, match.index);
        range.setEnd(texts.currentNode, match.index + match[0].length);
        const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
        if (lines.size > 1) found.push(`breaks the word ${match[0]} in a table`);
      }
    }
  }
  for (const box of document.querySelectorAll(".table")) {
    if (box.scrollWidth > box.clientWidth) found.push(`a table is ${box.scrollWidth} px wide`);
  }
  const top = document.querySelector("main h1")?.getBoundingClientRect().top;
  if (top === undefined) return [`is no page: ${document.body.textContent.slice(0, 300)}`];
  if (top > innerHeight / 3) found.push(`its title is ${top} px from the top`);
  return found;
}

/** Look at pages in one window; `axe` also checks them for people who do not see well. */
async function check(browser, paths, { viewport, colorScheme = "light", javaScriptEnabled = true, axe = false }) {
  const context = await browser.newContext({ viewport, colorScheme, javaScriptEnabled });
  const page = await context.newPage();
  let place = "";
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) faults.push(`${place}: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`${place}: ${error}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(`${address}/`)) faults.push(`${place} asks for ${request.url()}`);
  });
  for (const path of paths) {
    place = `${path} at ${viewport.width} px, ${colorScheme}${javaScriptEnabled ? "" : ", no script"}`;
    await page.goto(address + path, { waitUntil: "load" });
    // Without scripts the page is inspected all the same: the driver's scripts are not the page's.
    for (const fault of await page.evaluate(inspect, TALLEST)) faults.push(`${place} ${fault}`);
    if (axe) {
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      for (const { id, nodes } of violations) {
        faults.push(`${place}: axe ${id}: ${nodes[0].html.slice(0, 200)}`);
      }
    }
    if (pictures && axe) {
      const name = `${path.slice(1).replaceAll("/", "-")}-${viewport.width}-${colorScheme}`;
      await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true });
    }
  }
  await context.close();
}

/** The search by keyboard: `/` opens it, two words find a section, Enter opens it. */
async function checkSearch(browser) {
  const context = await browser.newContext({ viewport: LAPTOP });
  const page = await context.newPage();
  await page.goto(`${address}/docs`);
  await page.keyboard.press("/");
  await page.keyboard.type("constant time");
  await page.locator("#results li").first().waitFor({ timeout: 5000 });
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  for (const { id } of violations) faults.push(`the search: axe ${id}`);
  if (pictures) await page.screenshot({ path: `${pictures}/search.png` });
  await page.keyboard.press("Enter");
  await page.waitForURL("**/docs/signatures*");
  await context.close();
}

/** A copy button copies the whole block, with the address of this service. */
async function checkCopy(browser) {
  const context = await browser.newContext({ viewport: LAPTOP });
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const page = await context.newPage();
  for (const path of ["/docs/quickstart", "/docs/errors", "/docs/reference/list-leads"]) {
    await page.goto(address + path);
    await page.locator(".copy").first().click();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    const [line] = copied.split("\n");
    if (!line.endsWith(`export LEADLOG_URL=${address}`)) faults.push(`copied from ${path}: ${copied}`);
  }
  await context.close();
}

/** On a phone the menu opens without a script. */
async function checkMenu(browser) {
  const context = await browser.newContext({ viewport: PHONE, javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(`${address}/docs/quickstart`);
  if (await page.locator(".menu nav").isVisible()) faults.push("the menu is open at first");
  await page.locator(".menu summary").click();
  await page.locator(".menu nav a", { hasText: "Check signatures" }).click();
  await page.waitForURL("**/docs/signatures");
  await context.close();
}

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});
try {
  for (const viewport of [PHONE, LAPTOP]) {
    await check(browser, ALL, { viewport });
    await check(browser, SAMPLE, { viewport, javaScriptEnabled: false });
    for (const colorScheme of ["light", "dark"]) {
      await check(browser, SAMPLE, { viewport, colorScheme, axe: true });
    }
  }
  for (const checkPart of [checkSearch, checkCopy, checkMenu]) {
    await checkPart(browser).catch((error) => faults.push(`${checkPart.name}: ${error}`));
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(faults, null, 1));
