import { marked } from "marked";

export function render(text) {
  return marked.parse(text);
}

/** The headings of a text, in order. */
export function headings(text) {
  return marked.lexer(text).filter((token) => token.type === "heading").map((token) => token.text);
}
