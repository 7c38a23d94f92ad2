// A daemon and a browser for the tests of the pages.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const ROOT = resolve(import.meta.dirname ?? new URL(".", import.meta.url).pathname, "../..");
const TARGET = resolve(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"));

/** How long anything may take on a busy machine. */
export const PATIENCE = 60_000;

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Starts a daemon with data of its own; `stop` ends it. */
async function daemon() {
  const data = mkdtempSync(join(tmpdir(), "braindrill-pages-"));
  const program = join(TARGET, "debug/braindrill");
  const args = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--self-test", "false"];
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "ignore"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const address = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const found = /listens on (http:\S+)/.exec(line);
      if (found) resolve(found[1]);
    });
    child.once("error", reject);
    child.once("exit", () => reject(new Error("the daemon did not start")));
  });
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
    rmSync(data, { recursive: true, force: true });
  };
  return { address, stop };
}

function browser() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  // As root, as in a container, Chromium has no sandbox of its own. It opens our pages alone.
  const args = process.getuid() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath, args });
}

/** A page that fails its test by whatever goes wrong in it: errors, refused loads, other hosts. */
async function open(browser, address, path = "/", options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 800 },
    permissions: ["clipboard-read", "clipboard-write"],
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") wrong.push(message.text());
  });
  page.on("dialog", (dialog) => {
    wrong.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(`${address}/`)) wrong.push(`another host: ${request.url()}`);
  });
  page.on("websocket", (socket) => {
    if (!socket.url().startsWith(`${address.replace("http", "ws")}/`)) wrong.push(`another host: ${socket.url()}`);
  });
  await page.goto(address + path);
  return { page, context, wrong };
}

/** A daemon and a browser for the tests of a file. */
export function suite() {
  const served = { address: undefined };
  let stop;
  let launched;

  before(async () => {
    ({ address: served.address, stop } = await daemon());
    launched = await browser();
  });

  after(async () => {
    await launched?.close();
    await stop?.();
  });

  /** A test with a page, in which nothing may go wrong. */
  const onPage = (name, path, options, body) =>
    test(name, async () => {
      const { page, context, wrong } = await open(launched, served.address, path, options);
      try {
        await body(page, context);
        assert.deepEqual(wrong, []);
      } finally {
        await context.close();
      }
    });

  /** Sends a program past the page. */
  const submit = async (request) => {
    const answer = await fetch(`${served.address}/v1/submissions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(request),
    });
    assert.equal(answer.status, 201);
    return (await answer.json()).id;
  };

  return { served, onPage, submit };
}

/** Puts a program into the editor as a person would. */
export async function write(page, text) {
  await page.click(".cm-content");
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Delete");
  await page.keyboard.insertText(text);
}

/** Waits for the verdict. */
export async function verdict(page, words) {
  await page.locator(".verdict .chip", { hasText: words }).waitFor();
}

/** Keeps a picture of the page, for people to look at. */
export async function picture(page, name) {
  const folder = join(TARGET, "screenshots");
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
}

/** What axe finds that is serious or worse. */
export async function barriers(page) {
  // By the protocol, which the policy of the page does not bind.
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return found.violations
    .filter((it) => it.impact === "serious" || it.impact === "critical")
    .map((it) => `${it.id}: ${it.nodes.map((node) => node.html).join(" | ")}`);
}
