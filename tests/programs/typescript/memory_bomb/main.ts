const hoard: number[][] = [];
for (let i = 0; ; i++) hoard.push(new Array<number>(100_000).fill(i + 0.5));
