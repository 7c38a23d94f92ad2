const { Worker } = require("worker_threads");

const bomb = "const hoard = []; for (let i = 0; ; i++) hoard.push(new Array(100_000).fill(i + 0.5));";
new Worker(bomb, { eval: true, resourceLimits: { maxOldGenerationSizeMb: 4096 } });
