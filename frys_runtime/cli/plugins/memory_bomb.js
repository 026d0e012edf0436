// Hostile: takes memory and writes to it until somebody stops it.

export function run() {
  const hoard = [];
  for (;;) hoard.push(new Uint8Array(1 << 20).fill(1));
}
