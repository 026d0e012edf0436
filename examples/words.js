// A JavaScript plugin: every top-level function of a script, or every export of a module, can be called.

export function reverse(text) {
  return [...text].reverse().join("")
}

// Bytes are Uint8Array, in and out.
export async function invert(bytes) {
  return bytes.map((byte) => 255 - byte)
}
