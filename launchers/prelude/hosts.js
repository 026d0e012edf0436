// Hosts and percent-encoding of the URL Standard (https://url.spec.whatwg.org). Hosts beyond ASCII are normalised
// with NFKC and lower case and then written in Punycode, which is what IDNA does to all but rare characters.
(function (native, internal) {
  "use strict";
  const { encode, decode } = native;

  const hex = (byte) => "%" + (byte < 16 ? "0" : "") + byte.toString(16).toUpperCase();

  // `set` is what is encoded beside controls and what is not ASCII.
  function percentEncode(text, set) {
    let made = "";
    for (const character of text) {
      const code = character.codePointAt(0);
      if (code > 0x1f && code < 0x7f && !set.includes(character)) made += character;
      else for (const byte of encode(character.toWellFormed())) made += hex(byte);
    }
    return made;
  }

  function percentDecode(text) {
    const bytes = encode(text.toWellFormed()), made = [];
    for (let i = 0; i < bytes.length; i++) {
      const digits = bytes[i] === 0x25 ? String.fromCharCode(bytes[i + 1], bytes[i + 2]) : "";
      if (/^[0-9A-Fa-f]{2}$/.test(digits)) {
        made.push(parseInt(digits, 16));
        i += 2;
      } else made.push(bytes[i]);
    }
    return decode(new Uint8Array(made), "utf-8", false);
  }

  class Invalid extends Error {}
  const invalid = () => { throw new Invalid(); };

  // hosts

  function parseHost(text, isSpecial) {
    if (text[0] === "[") return text.endsWith("]") ? "[" + parseIPv6(text.slice(1, -1)) + "]" : invalid();
    if (!isSpecial) {
      if (/[\0\t\n\r #/:<>?@[\\\]^|]/.test(text)) invalid();
      return percentEncode(text, "");
    }
    const host = toASCII(percentDecode(text));
    if (!host || /[\0-\x20"#%/:<>?@[\\\]^`{|}\x7f]/.test(host)) invalid();
    return endsInNumber(host) ? parseIPv4(host) : host;
  }

  function endsInNumber(host) {
    const parts = host.split(".");
    if (parts.at(-1) === "" && parts.length > 1) parts.pop();
    return /^(\d+|0[xX][0-9A-Fa-f]*)$/.test(parts.at(-1));
  }

  function parseIPv4(host) {
    const parts = host.split(".");
    if (parts.at(-1) === "" && parts.length > 1) parts.pop();
    if (parts.length > 4) invalid();
    const numbers = parts.map((part) => {
      if (/^0[xX][0-9A-Fa-f]*$/.test(part)) return parseInt(part.slice(2) || "0", 16);
      if (/^0[0-7]*$/.test(part)) return parseInt(part, 8);
      return /^[1-9]\d*$/.test(part) ? parseInt(part, 10) : invalid();
    });
    const last = numbers.pop();
    if (numbers.some((number) => number > 255) || last >= 256 ** (4 - numbers.length)) invalid();
    const address = numbers.reduce((sum, number, i) => sum + number * 256 ** (3 - i), last);
    return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
  }

  function parseIPv6(text) {
    const halves = text.split("::");
    if (halves.length > 2) invalid();
    const [head, tail] = halves.map((half, i) => pieces(half, i === halves.length - 1));
    const total = head.length + (tail?.length ?? 0);
    if (tail ? total > 7 : total !== 8) invalid();
    return serializeIPv6(tail ? [...head, ...Array(8 - total).fill(0), ...tail] : head);
  }

  function pieces(half, isLast) {
    if (!half) return [];
    const parts = half.split(":"), made = [];
    parts.forEach((part, i) => {
      const dotted = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(part);
      if (dotted && isLast && i === parts.length - 1) {
        const bytes = dotted.slice(1);
        if (bytes.some((byte) => byte > 255 || /^0./.test(byte))) invalid();
        made.push(bytes[0] * 256 + +bytes[1], bytes[2] * 256 + +bytes[3]);
      } else made.push(/^[0-9A-Fa-f]{1,4}$/.test(part) ? parseInt(part, 16) : invalid());
    });
    return made;
  }

  function serializeIPv6(address) {
    let best = -1, length = 1;
    for (let i = 0; i < 8; i++) {
      let run = 0;
      while (i + run < 8 && address[i + run] === 0) run += 1;
      if (run > length) { best = i; length = run; }
    }
    const words = (part) => part.map((piece) => piece.toString(16)).join(":");
    return best < 0 ? words(address) : words(address.slice(0, best)) + "::" + words(address.slice(best + length));
  }

  function toASCII(host) {
    const shown = host.replace(/[\u00ad\u200b-\u200d\u2060\ufeff]/g, "");
    const folded = shown.normalize("NFKC").toLowerCase().normalize("NFC");
    return folded.replace(/[\u3002\uff0e\uff61]/g, ".").split(".").map((label) => {
      if (/^[\0-\x7f]*$/.test(label)) return label;
      return /[\ufffd\p{Cn}\p{Cc}]/u.test(label) ? invalid() : "xn--" + punycode(label);
    }).join(".");
  }

  function punycode(label) {  // RFC 3492
    const input = Array.from(label, (character) => character.codePointAt(0));
    let output = input.filter((code) => code < 0x80).map((code) => String.fromCharCode(code)).join("");
    const basic = output.length;
    let handled = basic, n = 0x80, delta = 0, bias = 72;
    if (basic) output += "-";
    const digit = (value) => String.fromCharCode(value < 26 ? value + 97 : value + 22);
    while (handled < input.length) {
      const next = Math.min(...input.filter((code) => code >= n));
      delta += (next - n) * (handled + 1);
      n = next;
      for (const code of input) {
        if (code < n) delta += 1;
        if (code !== n) continue;
        let q = delta;
        for (let k = 36; ; k += 36) {
          const t = k <= bias ? 1 : k >= bias + 26 ? 26 : k - bias;
          if (q < t) break;
          output += digit(t + (q - t) % (36 - t));
          q = Math.floor((q - t) / (36 - t));
        }
        output += digit(q);
        handled += 1;
        delta = Math.floor(delta / (handled === basic + 1 ? 700 : 2));
        delta += Math.floor(delta / handled);
        let k = 0;
        for (; delta > 455; k += 36) delta = Math.floor(delta / 35);
        bias = k + Math.floor(36 * delta / (delta + 38));
        delta = 0;
      }
      delta += 1;
      n += 1;
    }
    return output;
  }

  internal.url = { Invalid, invalid, hex, parseHost, percentDecode, percentEncode };
})
