// The demo's JavaScript plugin: tidies a text up and counts its words.

const NEWLINE = 10, RETURN = 13, SPACE = 32, TAB = 9;

const isBlank = (byte) => byte === SPACE || (byte >= TAB && byte <= RETURN);

/** Line ends become \n and blanks in front of them go; words are counted as `wc -w` does. */
export function tidy(text) {
  const result = new Uint8Array(text.length);
  let length = 0, words = 0, inWord = false;
  for (let at = 0; at < text.length; at++) {
    let byte = text[at];
    if (byte === RETURN) {
      if (text[at + 1] === NEWLINE) continue;
      byte = NEWLINE;
    }
    if (byte === NEWLINE) {
      while (length && (result[length - 1] === SPACE || result[length - 1] === TAB)) length--;
    }
    result[length++] = byte;
    const wasInWord = inWord;
    inWord = !isBlank(byte);
    if (inWord && !wasInWord) words++;
  }
  const tidied = result.slice(0, length);
  return { text: tidied, words, often: oftenest(tidied) };
}

/** The longer words that come up most often, with their counts. */
function oftenest(text) {
  const counts = new Map();
  for (const [word] of new TextDecoder().decode(text).matchAll(/\p{L}{5,}/gu)) {
    const key = word.toLowerCase();
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1]).slice(0, 3);
}
