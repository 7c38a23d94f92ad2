// The pages in a browser, against a real daemon.

import assert from "node:assert/strict";
import { barriers, picture, suite, verdict, write } from "./support.mjs";

const { served, onPage, submit } = suite();

const run = (language, source) => submit({ language, source });

onPage("a program is written and run, and its output comes while it runs", "/", {}, async (page) => {
  await page.selectOption("#language", "python");
  await write(page, 'import time\nprint("one", flush=True)\ntime.sleep(30)\nprint("two")\n');
  await page.keyboard.press("Control+Enter");
  await page.locator(".output .screen", { hasText: "one" }).waitFor();
  assert.match(await page.locator(".status").innerText(), /Running/);
  assert.doesNotMatch(await page.locator(".output .screen").innerText(), /two/);
  await picture(page, "playground-running");
  await page.click("button.stop");
  await verdict(page, "Cancelled");
  await write(page, 'print("one")\nprint("two")\n');
  await page.click("button.run");
  await verdict(page, "Accepted");
  assert.equal((await page.locator(".output .screen").innerText()).trim(), "one\ntwo");
  assert.match(await page.locator(".figures").innerText(), /CPU.*clock.*memory/s);
});

onPage("stdin, arguments and limits reach the program", "/", {}, async (page) => {
  await page.selectOption("#language", "python");
  await write(page, "import sys\nprint(input(), sys.argv[1:])\n");
  await page.getByLabel("Standard input").fill("from stdin\n");
  await page.getByText("Arguments", { exact: true }).click();
  await page.getByLabel("Words, with quotes around those with spaces").fill(`one "two words" 'three'`);
  await page.click("button.run");
  await verdict(page, "Accepted");
  const said = (await page.locator(".output .screen").innerText()).trim();
  assert.equal(said, "from stdin ['one', 'two words', 'three']");
});

onPage("a picture that a program drew is shown, and what is not there is said", "/", {}, async (page) => {
  await page.selectOption("#language", "python");
  await page.selectOption("#example", { label: "A picture" });
  const field = page.getByLabel("Files and folders that it leaves, to be shown here");
  assert.equal(await field.inputValue(), "wave.svg");
  await field.fill('wave.svg "not there.txt" notes/');
  const source = await page.evaluate(() => localStorage.getItem("braindrill.draft.python"));
  await write(page, `${JSON.parse(source).source}import os; os.mkdir("notes"); open("notes/a b.txt", "w").write("x")\n`);
  await page.click("button.run");
  await verdict(page, "Accepted");
  const drawn = page.locator('.files img[alt="wave.svg"]');
  await drawn.waitFor();
  assert.ok(await drawn.evaluate((img) => img.decode().then(() => img.naturalWidth > 100)));
  assert.match(await page.locator(".files .missed").innerText(), /not there.txt is not there/);
  const saved = page.waitForEvent("download");
  await page.locator(".files a", { hasText: "notes/a b.txt" }).click();
  assert.equal((await saved).suggestedFilename(), "a b.txt");
  assert.deepEqual(await barriers(page), []);
  await page.locator(".files").scrollIntoViewIfNeeded();
  await picture(page, "playground-files");
  // The link shows the same again.
  await page.reload();
  await drawn.waitFor();
  assert.equal(await field.inputValue(), 'wave.svg "not there.txt" notes/');
});

onPage("a compile error is shown at its line", "/", {}, async (page) => {
  await page.selectOption("#language", "c");
  await page.selectOption("#example", { label: "A compile error" });
  await page.click("button.run");
  await verdict(page, "Compile error");
  await page.locator(".cm-lint-marker-error").waitFor();
  await page.locator(".complaint").first().click();
  const line = await page.locator(".cm-activeLineGutter").first().innerText();
  assert.match(await page.locator(".complaint .place").first().innerText(), new RegExp(`line ${line}\\b`));
  await picture(page, "playground-compile-error");
});

onPage("an exception is shown at its line", "/", {}, async (page) => {
  await page.selectOption("#language", "python");
  await page.selectOption("#example", { label: "An exception" });
  await page.click("button.run");
  await verdict(page, "Runtime error");
  assert.match(await page.locator(".complaint").innerText(), /line 2.*ZeroDivisionError/s);
});

onPage("a program over its time is told so", "/", {}, async (page) => {
  await page.selectOption("#language", "python");
  await page.selectOption("#example", { label: "A time limit" });
  await page.click("button.run");
  await verdict(page, "Time limit exceeded");
  assert.match(await page.locator(".verdict .reason").innerText(), /of 1000 ms/);
  await picture(page, "playground-time-limit");
});

onPage("a run is cancelled", "/", {}, async (page) => {
  await page.selectOption("#language", "bash");
  await write(page, "echo begun; sleep 50\n");
  await page.click("button.run");
  await page.locator(".output .screen", { hasText: "begun" }).waitFor();
  await page.click("button.stop");
  await verdict(page, "Cancelled");
  await picture(page, "playground-cancelled");
});

onPage("tests are a table, with the differences", "/", {}, async (page) => {
  await page.selectOption("#language", "python");
  await page.selectOption("#example", { label: "Tests" });
  await page.click("button.run");
  await verdict(page, "Wrong answer");
  const rows = await page.locator(".tests tbody tr").allInnerTexts();
  assert.deepEqual(rows.map((row) => /Accepted|Wrong answer/.exec(row)[0]), [
    "Accepted",
    "Accepted",
    "Wrong answer",
  ]);
  await page.locator(".tests tbody button").nth(2).click();
  assert.match(await page.locator(".differences").innerText(), /11.*10/s);
  await page.locator(".tests").scrollIntoViewIfNeeded();
  await picture(page, "playground-tests");
});

onPage("a link opens the same submission again", "/", {}, async (page, context) => {
  await page.selectOption("#language", "ruby");
  await write(page, 'puts "a program to pass on"\n');
  await page.click("button.run");
  await verdict(page, "Accepted");
  await page.getByRole("button", { name: "Copy link" }).click();
  const link = await page.evaluate(() => navigator.clipboard.readText());
  const other = await context.newPage();
  await other.goto(link);
  await verdict(other, "Accepted");
  assert.match(await other.locator(".cm-content").innerText(), /a program to pass on/);
  assert.equal(await other.locator("#language").inputValue(), "ruby");
  assert.equal((await other.locator(".output .screen").innerText()).trim(), "a program to pass on");
  await picture(other, "playground-opened");
  // Back to what was there before, by the browser's own button.
  await other.goto(`${served.address}/#01a228b9-0000-7000-8000-000000000000`);
  await other.locator(".problem", { hasText: "no such submission" }).waitFor();
  await other.goBack();
  await verdict(other, "Accepted");
});

onPage("a link keeps one's own draft, and what it brings is run again as it was", "/", {}, async (page) => {
  await page.selectOption("#language", "java");
  await write(page, "// my own draft");
  const source = "public class Other { public static void main(String[] a) { System.out.println(System.getenv(\"X\")); } }";
  const id = await submit({ language: "java", source, entrypoint: "Other.java", env: { X: "of the link" } });
  await page.goto(`${served.address}/#${id}`);
  await verdict(page, "Accepted");
  await page.click("button.run");
  await page.waitForFunction((id) => !location.hash.includes(id), id);
  await verdict(page, "Accepted");
  assert.equal((await page.locator(".output .screen").innerText()).trim(), "of the link");
  await page.goto("about:blank");
  await page.goto(`${served.address}/`);
  await page.selectOption("#language", "java");
  await page.locator(".cm-content", { hasText: "my own draft" }).waitFor();
});

onPage("names of files are no patterns", "/", {}, async (page) => {
  const id = await submit({ language: "python", source: "1 / 0", entrypoint: "a(.py" });
  await page.goto(`${served.address}/#${id}`);
  await verdict(page, "Runtime error");
  assert.match(await page.locator(".complaint").innerText(), /line 1.*ZeroDivisionError/s);
});

onPage("of two submissions that are opened the later is shown", "/", {}, async (page) => {
  const [first, second] = [await run("bash", "echo of the first"), await run("bash", "echo of the second")];
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route(`**/v1/submissions/${first}`, async (route) => {
    await held;
    await route.continue().catch(() => {});
  });
  await page.goto(`${served.address}/#${first}`);
  await page.goto(`${served.address}/#${second}`);
  await verdict(page, "Accepted");
  release();
  await page.waitForTimeout(500);
  assert.equal((await page.locator(".output .screen").innerText()).trim(), "of the second");
  assert.match(await page.locator(".cm-content").innerText(), /of the second/);
});

onPage("a stream that is refused is asked for again", "/", {}, async (page) => {
  let refused = 0;
  await page.route("**/events", async (route) => {
    if (refused++ === 0) await route.fulfill({ status: 502, body: "a proxy" });
    else await route.continue();
  });
  page.removeAllListeners("console");
  await page.selectOption("#language", "bash");
  await write(page, "sleep 3; echo at last\n");
  await page.click("button.run");
  await verdict(page, "Accepted");
  assert.equal((await page.locator(".output .screen").innerText()).trim(), "at last");
});

onPage("nothing that a program writes breaks the page", "/", {}, async (page) => {
  await page.selectOption("#language", "python");
  await write(
    page,
    [
      "import sys",
      'print("<img src=x onerror=alert(1)><script>alert(2)</script>&amp;")',
      'print("\\x1b[31mred\\x1b[0m \\x1b]0;title\\x07 \\x1b[2J\\x1b[999;999H plain \\x1b[1;4mlooks\\x1b[m")',
      'print("NUL \\0 bell \\a back \\b \\u202egnp.exe\\u202c end")',
      'print("long " + "x" * 100000)',
      'sys.stdout.buffer.write(b"\\xff\\xfe broken \\xc3\\n")',
      'print("end of it", file=sys.stderr)',
    ].join("\n"),
  );
  await page.click("button.run");
  await verdict(page, "Accepted");
  const screen = page.locator(".output .screen");
  const said = await screen.innerText();
  for (const words of ["<img src=x", "red", "plain looks", "NUL \u2400", "[U+202E]", "\ufffd", "end of it"]) {
    assert.ok(said.includes(words), words);
  }
  assert.ok(!said.includes("\x1b") && !said.includes("title") && !said.includes("\u202e"));
  assert.equal(await screen.locator("img, script").count(), 0);
  assert.equal(await screen.locator(".t-fg1").first().innerText(), "red");
  const { width, view } = await page.evaluate(() => ({
    width: document.documentElement.scrollWidth,
    view: innerWidth,
  }));
  assert.ok(width <= view, `${width} of ${view}`);
});

onPage("a flood is shown in part, with where the rest is", "/", {}, async (page) => {
  await page.selectOption("#language", "bash");
  await write(page, "yes 'a line of a program that says much' | head -c 900000\n");
  await page.click("button.run");
  await verdict(page, "Accepted");
  assert.ok((await page.locator(".output .screen").innerText()).length <= 262_144);
  const rest = await page.locator(".output a", { hasText: "stdout" }).getAttribute("href");
  assert.equal((await (await fetch(served.address + rest)).text()).length, 900_000);
});

onPage("bad input is told, and nothing is lost", "/", {}, async (page) => {
  await page.selectOption("#language", "python");
  await write(page, "print('kept')\n");
  await page.getByText("Limits", { exact: true }).click();
  await page.getByLabel("CPU time").fill("99999999");
  // The refused request is an error of the network to the browser's console.
  page.removeAllListeners("console");
  await page.click("button.run");
  await page.locator(".problem", { hasText: "limits.cpu_time_ms" }).waitFor();
  assert.match(await page.locator(".cm-content").innerText(), /kept/);
  await page.reload();
  assert.match(await page.locator(".cm-content").innerText(), /kept/);
});

onPage("everything can be done with the keyboard", "/", {}, async (page) => {
  await page.selectOption("#language", "python");
  await page.click(".cm-content");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Tab");
  const where = () => page.evaluate(() => document.activeElement?.tagName.toLowerCase());
  assert.equal(await where(), "input", "out of the editor");
  await page.keyboard.press("Control+Enter");
  await verdict(page, "Accepted");
});

onPage("the page is good on a narrow screen", "/", { viewport: { width: 400, height: 780 } }, async (page) => {
  await page.selectOption("#language", "c");
  await page.selectOption("#example", { label: "A compile error" });
  await page.click("button.run");
  await verdict(page, "Compile error");
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 400);
  await picture(page, "playground-narrow");
});

onPage("the operator sees a run in flight", "/ops", {}, async (page) => {
  const id = await run("bash", "echo begun; sleep 20");
  const row = page.locator("tr", { hasText: id });
  await row.locator(".chip", { hasText: "Running" }).waitFor();
  await row.getByRole("button").click();
  await page.locator(".timeline", { hasText: "Begun" }).waitFor();
  assert.match(await page.locator("main").innerText(), /healthy.*[12] of \d/s);
  await page.locator(".uplot").first().waitFor();
  await page.evaluate(() => scrollTo(0, 0));
  await picture(page, "operation");
  await fetch(`${served.address}/v1/submissions/${id}/cancel`, { method: "POST" });
  await page.locator(".timeline", { hasText: "Cancelled" }).waitFor();
  await page.getByLabel("Verdict", { exact: true }).selectOption("compile_error");
  await row.waitFor({ state: "detached" });
});

for (const colorScheme of ["light", "dark"]) {
  onPage(`nothing keeps anybody out of the playground (${colorScheme})`, "/", { colorScheme }, async (page) => {
    await page.selectOption("#language", "c");
    await page.selectOption("#example", { label: "A compile error" });
    await page.click("button.run");
    await verdict(page, "Compile error");
    assert.deepEqual(await barriers(page), []);
    await page.selectOption("#language", "python");
    await page.selectOption("#example", { label: "Tests" });
    await page.click("button.run");
    await verdict(page, "Wrong answer");
    await page.locator(".tests tbody button").nth(2).click();
    assert.deepEqual(await barriers(page), []);
  });

  onPage(`nothing keeps anybody out of the operator's page (${colorScheme})`, "/ops", { colorScheme }, async (page) => {
    const id = await run("python", "print(6*7)");
    await page.locator("tr", { hasText: id }).getByRole("button").click();
    await page.locator(".timeline", { hasText: "Accepted" }).waitFor();
    await page.locator(".uplot").first().waitFor();
    assert.deepEqual(await barriers(page), []);
  });
}
