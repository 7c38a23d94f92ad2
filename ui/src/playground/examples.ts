// Programs to begin with, by language.

import type { SubmissionRequest } from "../api/client";

export interface Example {
  name: string;
  request: Omit<SubmissionRequest, "language">;
}

const HELLO: Record<string, string> = {
  python: 'name = input("Your name? ")\nprint(f"Hello, {name}!")\n',
  javascript:
    'const name = require("fs").readFileSync(0, "utf8").trim();\nconsole.log(`Hello, ${name}!`);\n',
  typescript:
    'import { readFileSync } from "fs";\n\nconst name: string = readFileSync(0, "utf8").trim();\nconsole.log(`Hello, ${name}!`);\n',
  java: 'import java.util.Scanner;\n\npublic class Main {\n    public static void main(String[] args) {\n        String name = new Scanner(System.in).nextLine();\n        System.out.println("Hello, " + name + "!");\n    }\n}\n',
  c: '#include <stdio.h>\n\nint main(void) {\n    char name[80];\n    if (scanf("%79s", name) != 1) return 1;\n    printf("Hello, %s!\\n", name);\n    return 0;\n}\n',
  cpp: '#include <iostream>\n#include <string>\n\nint main() {\n    std::string name;\n    std::getline(std::cin, name);\n    std::cout << "Hello, " << name << "!\\n";\n}\n',
  go: 'package main\n\nimport "fmt"\n\nfunc main() {\n\tvar name string\n\tfmt.Scan(&name)\n\tfmt.Printf("Hello, %s!\\n", name)\n}\n',
  rust: 'use std::io;\n\nfn main() -> io::Result<()> {\n    let mut name = String::new();\n    io::stdin().read_line(&mut name)?;\n    println!("Hello, {}!", name.trim());\n    Ok(())\n}\n',
  ruby: 'name = gets.chomp\nputs "Hello, #{name}!"\n',
  perl: 'use strict;\nuse warnings;\n\nchomp(my $name = <STDIN>);\nprint "Hello, $name!\\n";\n',
  php: '<?php\n$name = trim(fgets(STDIN));\necho "Hello, $name!\\n";\n',
  lua: 'local name = io.read()\nprint("Hello, " .. name .. "!")\n',
  bash: 'read -r name\necho "Hello, $name!"\n',
  sqlite: "select 'Hello, ' || 'SQLite ' || sqlite_version() || '!';\n",
  scala: 'object Main extends App {\n  val name = scala.io.StdIn.readLine()\n  println(s"Hello, $name!")\n}\n',
  kotlin: 'fun main() {\n    val name = readln()\n    println("Hello, $name!")\n}\n',
};

const MORE: Record<string, Example[]> = {
  python: [
    {
      name: "Tests",
      request: {
        source: "n = int(input())\nprint(sum(range(1, n + 1)))\n",
        tests: [
          { name: "small", stdin: "3\n", expected_output: "6\n" },
          { name: "large", stdin: "100000\n", expected_output: "5000050000\n" },
          { name: "a wrong expectation", stdin: "4\n", expected_output: "11\n" },
        ],
      },
    },
    {
      name: "Output as it comes",
      request: {
        source:
          'import sys, time\n\nfor n in range(1, 6):\n    print(f"step {n} of 5", flush=True)\n    print(f"  (said on stderr)", file=sys.stderr)\n    time.sleep(0.6)\n',
      },
    },
    {
      name: "A picture",
      request: {
        source:
          'from math import sin\n\npoints = " ".join(f"{x},{60 - 50 * sin(x / 20):.1f}" for x in range(0, 321, 4))\nwith open("wave.svg", "w") as file:\n    file.write(\n        \'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 120">\'\n        \'<rect width="320" height="120" fill="#eef3fb"/>\'\n        f\'<polyline points="{points}" fill="none" stroke="#2458b8" stroke-width="3"/></svg>\'\n    )\nprint("drawn")\n',
        collect: ["wave.svg"],
      },
    },
    {
      name: "A conversation",
      request: {
        source:
          'from random import randint\n\nsecret = randint(1, 100)\nprint("I think of a number from 1 to 100.")\nwhile True:\n    guess = input("Your guess? ")\n    if not guess.isdigit():\n        print("\\033[33mA number, please.\\033[0m")\n    elif int(guess) == secret:\n        print("\\033[32mThat is it!\\033[0m")\n        break\n    else:\n        print("More." if int(guess) < secret else "Less.")\n',
        interactive: true,
        tty: true,
      },
    },
    { name: "A time limit", request: { source: "while True:\n    pass\n", limits: { cpu_time_ms: 1000 } } },
    {
      name: "A memory limit",
      request: {
        source: "kept = []\nwhile True:\n    kept.append(bytearray(10_000_000))\n",
        limits: { memory_bytes: 67108864 },
      },
    },
    { name: "An exception", request: { source: "def half(n):\n    return n / 0\n\nprint(half(84))\n" } },
  ],
  c: [
    {
      name: "A compile error",
      request: {
        source: '#include <stdio.h>\n\nint main(void) {\n    int answer = 42\n    printf("%d\\n", anser);\n    return 0;\n}\n',
      },
    },
    {
      name: "A crash",
      request: { source: "int main(void) {\n    int *nowhere = 0;\n    return *nowhere;\n}\n" },
    },
  ],
};

/** The examples of a language; the first is what its editor begins with. */
export function examples(language: string): Example[] {
  const hello = HELLO[language];
  const first: Example = {
    name: "Hello",
    request: { source: hello ?? "", stdin: language === "sqlite" || !hello ? "" : "world\n" },
  };
  return [first, ...(MORE[language] ?? [])];
}
