// Programs that are typed at while they run, in a browser, against a real daemon.

import assert from "node:assert/strict";
import { barriers, picture, suite, verdict, write } from "./support.mjs";

const { served, onPage, submit } = suite();

const LABEL = "Type while it runs, in a terminal";
const ASKS = 'name = input("Your name? ")\nprint(f"\\033[32mHello, {name}!\\033[0m")\n';

const seen = (page, hasText) => page.locator(".terminal-box .xterm-rows", { hasText }).waitFor();
const lines = async (page) =>
  (await page.locator(".terminal-box .xterm-rows > div").allInnerTexts()).map((it) => it.trimEnd());
const isTyping = (page) =>
  page.evaluate(() => document.activeElement?.closest(".terminal-box") !== null);

/** Runs a program in a terminal, from the keyboard. */
async function run(page, source) {
  await page.selectOption("#language", "python");
  await page.getByLabel(LABEL).check();
  await write(page, source);
  await page.keyboard.press("Control+Enter");
}

/** Ends a program, which would go on without the page. */
async function stop(page) {
  await page.click("button.stop");
  await verdict(page, "Cancelled");
}

onPage("a program asks, and is answered while it runs", "/", {}, async (page) => {
  const sent = page.waitForRequest((request) => request.method() === "POST");
  await run(page, ASKS);
  await seen(page, "Your name?");
  const { interactive, tty, limits } = (await sent).postDataJSON();
  assert.deepEqual([interactive, tty, limits], [true, true, undefined]);
  assert.ok(await isTyping(page), "in the terminal from the beginning");
  await page.keyboard.type("Aba");
  await page.keyboard.press("Backspace");
  await page.keyboard.press("Backspace");
  await page.keyboard.type("da\n");
  await verdict(page, "Accepted");
  await seen(page, "Hello, Ada!");
  assert.deepEqual((await lines(page)).slice(0, 2), ["Your name? Ada", "Hello, Ada!"]);
  // Nothing is left of it beside a program without.
  await page.getByLabel(LABEL).uncheck();
  await page.getByLabel("Standard input").fill("Bob\n");
  await page.click("button.run");
  await page.locator(".output .screen", { hasText: "Hello, Bob!" }).waitFor();
  assert.equal(await page.locator(".terminal-box").count(), 0);
  assert.equal(await page.evaluate(() => document.adoptedStyleSheets.length), 0);
});

onPage("Ctrl-C and Ctrl-D reach the program", "/", {}, async (page) => {
  await run(page, 'import time\nprint("asleep")\ntime.sleep(60)\n');
  await seen(page, "asleep");
  await page.keyboard.press("Control+c");
  await seen(page, "KeyboardInterrupt");
  await verdict(page, "Runtime error");
  await run(page, 'import sys\nprint("reads")\nprint(len(sys.stdin.read()), "read")\n');
  await seen(page, "reads");
  await page.keyboard.type("one\n");
  await page.getByRole("button", { name: "Ctrl-D" }).click();
  await verdict(page, "Accepted");
  await seen(page, "4 read");
});

onPage("the program is told how large its terminal is", "/", {}, async (page) => {
  await run(
    page,
    [
      "import os, time",
      "was = None",
      "while True:",
      "    size = os.get_terminal_size()",
      "    if size != was: print(*size, sep=' by ')",
      "    was = size",
      "    time.sleep(0.05)",
    ].join("\n"),
  );
  // It may have begun with the usual size before it was told.
  const told = async (most) => {
    const columns = await page.waitForFunction((most) => {
      const rows = [...document.querySelectorAll(".xterm-rows > div")].map((it) => it.textContent.trimEnd());
      const last = rows.filter((it) => it !== "").at(-1);
      const [columns, lines] = last?.split(" by ").map(Number) ?? [];
      return rows.length < most && lines === rows.length && columns;
    }, most);
    return columns.jsonValue();
  };
  const columns = await told(40);
  assert.ok(columns > 50 && columns < 80, `${columns} columns`);
  await page.setViewportSize({ width: 1000, height: 700 });
  const later = await told(22);
  assert.ok(later < columns, `${later} of ${columns} columns`);
  await stop(page);
});

onPage("a link shows a terminal again, and goes on with one that runs", "/", {}, async (page, context) => {
  await run(page, ASKS);
  await seen(page, "Your name?");
  const other = await context.newPage();
  await other.goto(page.url());
  await seen(other, "Your name?");
  await other.locator(".terminal-box").click();
  await other.keyboard.type("Grace\n");
  await verdict(other, "Accepted");
  await verdict(page, "Accepted");
  await seen(page, "Hello, Grace!");
  await other.reload();
  await verdict(other, "Accepted");
  await seen(other, "Hello, Grace!");
  assert.ok(await other.getByLabel(LABEL).isChecked());
  assert.ok(await other.locator(".xterm-helper-textarea").evaluate((it) => it.readOnly));
  const [asked, said] = await other.evaluate(() =>
    [...document.querySelectorAll(".xterm-rows span")].map((it) => getComputedStyle(it).color),
  );
  assert.notEqual(asked, said, "in its colour");
});

onPage("what a program asked of its terminal is answered once", "/", {}, async (page, context) => {
  await run(
    page,
    [
      "import sys, termios, time, tty",
      "before = termios.tcgetattr(0)",
      "tty.setcbreak(0)",
      'print("\\033[c", end="", flush=True)',
      'while sys.stdin.read(1) != "c": pass',
      "termios.tcsetattr(0, termios.TCSANOW, before)",
      "time.sleep(1.5)",
      'print(repr(input("asked ")))',
    ].join("\n"),
  );
  await seen(page, "asked");
  const other = await context.newPage();
  await other.goto(page.url());
  await seen(other, "asked");
  await other.locator(".terminal-box").click();
  await other.keyboard.type("Ada\n");
  await verdict(other, "Accepted");
  await seen(other, "'Ada'");
});

onPage("a terminal that is cut off goes on where it was", "/", {}, async (page) => {
  const asked = [];
  await page.routeWebSocket(/\/attach/, (socket) => {
    asked.push(new URL(socket.url()).search);
    const server = socket.connectToServer();
    let isCut = false;
    server.onMessage((message) => {
      if (isCut) return;
      socket.send(message);
      isCut = asked.length < 3 && JSON.parse(message).type === "stdout";
      if (isCut) void socket.close({ code: 1001 });
    });
  });
  await page.reload();
  await run(page, ASKS);
  await seen(page, "Your name?");
  await page.keyboard.type("Ada\n");
  await verdict(page, "Accepted");
  await seen(page, "Hello, Ada!");
  assert.deepEqual((await lines(page)).slice(0, 2), ["Your name? Ada", "Hello, Ada!"]);
  assert.equal(asked[0], "");
  assert.match(asked[2], /^\?after=\d+$/);
});

onPage("what a program writes does nothing outside of its terminal", "/", {}, async (page) => {
  await page.evaluate(() => navigator.clipboard.writeText("mine"));
  await run(
    page,
    [
      "import sys, termios, tty",
      'print("\\033]0;title\\007\\033]52;c;aGlz\\007\\a<img src=x onerror=alert(1)>")',
      'print("\\033]8;;https://example.org/\\033\\\\a link\\033]8;;\\033\\\\ \\033[8mhidden\\033[0m")',
      'print("\\033[38;2;250;250;250mpale\\033[0m \\033[38;5;231mpale too\\033[0m \\033[4:3;58:2::9:9:9mwaves\\033[0m")',
      "tty.setcbreak(0)",
      'print("\\033[c", end="", flush=True)',
      'answer = ""',
      'while not answer.endswith("c"): answer += sys.stdin.read(1)',
      'print("answered", repr(answer))',
      'print("\\033]8;;https://unfinished")',
    ].join("\n"),
  );
  await verdict(page, "Accepted");
  await seen(page, /answered '\\x1b\[\?/);
  assert.equal(await page.title(), "braindrill");
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "mine");
  assert.match((await lines(page))[0], /^<img src=x/);
  const link = page.locator(".xterm-rows span", { hasText: "a link" });
  const { x, y, width, height } = await link.boundingBox();
  await page.mouse.move(x + width / 2, y + height / 2);
  assert.equal(await link.evaluate((it) => getComputedStyle(it).textDecorationLine), "none");
  const pale = page.locator(".xterm-rows span", { hasText: "pale" }).first();
  assert.notEqual(await pale.evaluate((it) => getComputedStyle(it).color), "rgb(250, 250, 250)");
});

onPage("a flood leaves the page as quick as it was", "/", {}, async (page) => {
  await run(page, 'for n in range(30_000): print("line", n, "\\033[3%dmof many\\033[0m" % (n % 8))\n');
  await verdict(page, "Accepted");
  await seen(page, "line 29999 of many");
  const rest = await page.locator(".output a", { hasText: "all that was kept" }).getAttribute("href");
  assert.match(await (await fetch(served.address + rest)).text(), /^line 0 /);
  await page.locator(".terminal-box").click();
  await page.keyboard.press("Home");
  await seen(page, /line 24\d\d\d of many/);
  // Nor does what is short, and much to do.
  await run(
    page,
    [
      'print("x\\033[2147483647b\\033[2147483647L\\033[2147483647S\\033[2147483647T")',
      'print("a" + "\\u0301" * 300_000)',
      'print("\\033[H" + "x\\033[200b\\033[200L" * 5_000 + "\\033[2J\\033[Hdone")',
    ].join("\n"),
  );
  await verdict(page, "Accepted");
  await seen(page, "done");
});

onPage("keys are the program's, and the terminal can be left with them", "/", {}, async (page) => {
  await run(page, 'print(repr(input("? ")))\n');
  await seen(page, "?");
  await page.keyboard.type("a");
  await page.keyboard.press("Tab");
  await page.keyboard.type("b");
  assert.ok(await isTyping(page));
  await page.keyboard.press("Escape");
  await page.keyboard.press("Tab");
  assert.ok(!(await isTyping(page)));
  await page.keyboard.press("Shift+Tab");
  assert.ok(await isTyping(page));
  await page.keyboard.press("Enter");
  await verdict(page, "Accepted");
  await seen(page, "'a\\tb\\x1b'");
  // The end of the program ends its hold on the keys.
  await page.keyboard.press("Tab");
  assert.ok(!(await isTyping(page)));
  await page.locator(".terminal-box").click();
  await page.keyboard.press("Control+Enter");
  await page.locator(".progress", { hasText: "Running" }).waitFor();
  await stop(page);
});

onPage("a program has either tests or a terminal", "/", {}, async (page) => {
  await page.selectOption("#language", "python");
  await page.selectOption("#example", { label: "Tests" });
  assert.ok(await page.getByLabel(LABEL).isDisabled());
  await page.selectOption("#example", { label: "A conversation" });
  assert.ok(await page.getByLabel(LABEL).isChecked());
  await page.locator("summary", { hasText: "Tests" }).click();
  await page.getByText("either tests or a terminal").waitFor();
  // What is refused is told, and takes the terminal away.
  await page.locator("summary", { hasText: "Limits" }).click();
  await page.getByLabel("Time on the clock").fill("600001");
  page.removeAllListeners("console");
  await page.click("button.run");
  await page.locator(".problem", { hasText: "limits.wall_time_ms" }).waitFor();
  assert.equal(await page.locator(".terminal-box").count(), 0);
});

onPage("what was typed first by a request is sent again with it", "/", {}, async (page) => {
  const id = await submit({ language: "python", source: ASKS, stdin: "Ada\n", interactive: true, tty: true });
  await page.goto(`${served.address}/#${id}`);
  await verdict(page, "Accepted");
  assert.equal(await page.getByLabel("Typed for you as it begins").inputValue(), "Ada\n");
  await page.click("button.run");
  await page.waitForFunction((id) => !location.hash.includes(id), id);
  await verdict(page, "Accepted");
  await seen(page, "Hello, Ada!");
});

const COLOURS = [
  'print("┌──────────────┐\\n│ a box drawn  │\\n└──────────────┘  ✓ é 漢字")',
  'look = "\\033[{}m{}\\033[0m".format',
  "for n in 30, 90:",
  '    print(*(look(n + it, f"colour {it}") for it in range(8)))',
  'print(*(look(40 + it, f" ground {it} ") for it in range(8)))',
  'print(look(1, "bold"), look(2, "dim"), look(3, "italic"))',
  'print(look(4, "line"), look(7, "inverse"))',
].join("\n");

for (const colorScheme of ["light", "dark"]) {
  onPage(`nothing keeps anybody out of a terminal (${colorScheme})`, "/", { colorScheme }, async (page) => {
    await run(page, `${COLOURS}\n${ASKS}`);
    await seen(page, "Your name?");
    await page.keyboard.type("Ada");
    await page.mouse.move(0, 0);
    await picture(page, `playground-terminal-${colorScheme}`);
    await page.getByRole("button", { name: "Screen reader" }).click();
    assert.deepEqual(await barriers(page), []);
    await page.locator(".terminal-box .xterm-accessibility-tree", { hasText: "Your name?" }).waitFor();
    await page.locator(".terminal-box").click();
    await page.keyboard.press("Enter");
    await verdict(page, "Accepted");
    assert.deepEqual(await barriers(page), []);
    await picture(page, `playground-terminal-${colorScheme}-finished`);
  });
}

onPage("a terminal is good on a narrow screen", "/", { viewport: { width: 400, height: 780 } }, async (page) => {
  await run(page, `${COLOURS}\n${ASKS}`);
  await seen(page, "Your name?");
  await page.keyboard.type("Ada");
  await picture(page, "playground-terminal-narrow");
  assert.ok(await page.locator(".terminal-box").evaluate((it) => it.getBoundingClientRect().top < innerHeight - 100));
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 400);
  await page.keyboard.press("Enter");
  await verdict(page, "Accepted");
});

onPage("nothing that a program writes leaves its terminal, or says what does not stand there", "/", {}, async (page) => {
  const source = [
    'print("<img src=x onerror=alert(1)> NUL \\0 \\u202egnp.exe\\u202c \\u05d0\\u05d1 end")',
    'print("long " + "x" * 100000)',
    ASKS,
  ].join("\n");
  await run(page, source);
  await seen(page, "Your name?");
  await page.keyboard.press("Enter");
  await verdict(page, "Accepted");
  await page.locator(".terminal-box").click();
  await page.keyboard.press("Home");
  const rows = page.locator(".terminal-box .xterm-rows");
  await rows.filter({ hasText: "gnp.exe" }).waitFor();
  const said = await rows.innerText();
  assert.ok(said.includes("<img src=x onerror=alert(1)>") && said.includes("\ufffdgnp.exe\ufffd"), said);
  assert.ok(!said.includes("\u202e"));
  const override = await rows.locator("div").first().evaluate((row) => getComputedStyle(row).unicodeBidi);
  assert.equal(override, "bidi-override");
});
