console.log(42);
process.exitCode = 1;
