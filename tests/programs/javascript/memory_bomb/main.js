const hoard = [];
for (let i = 0; ; i++) hoard.push(new Array(100_000).fill(i + 0.5));
