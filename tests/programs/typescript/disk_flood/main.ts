import * as fs from "fs";

const file = fs.openSync("flood", "w");
for (;;) fs.writeSync(file, "x".repeat(100_000));
