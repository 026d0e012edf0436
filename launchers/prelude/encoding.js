// TextEncoder and TextDecoder (Encoding Standard): utf-8, utf-16le and windows-1252, which is also "latin1".
(function (native, internal) {
  "use strict";
  const { encode, decode } = native;
  const { bind, getter, define } = internal;
  const { DataView, RangeError, Uint8Array } = globalThis;
  const { isView } = ArrayBuffer;
  const toWellFormed = bind(String.prototype.toWellFormed);
  const toLowerCase = bind(String.prototype.toLowerCase);
  const replace = bind(String.prototype.replace);
  const slice = bind(String.prototype.slice);
  const typedArray = Reflect.getPrototypeOf(Uint8Array);
  const bufferOf = getter(typedArray, "buffer");
  const offsetOf = getter(typedArray, "byteOffset");
  const lengthOf = bind(internal.byteLength);
  const viewBuffer = getter(DataView, "buffer");
  const viewOffset = getter(DataView, "byteOffset");
  const viewLength = getter(DataView, "byteLength");
  const nameOf = getter(typedArray, Symbol.toStringTag);
  const setBytes = bind(typedArray.prototype.set);
  const spaces = /^[\t\n\f\r ]+|[\t\n\f\r ]+$/g;

  const LABELS = { __proto__: null };
  for (const label of ["utf-8", "utf8", "unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "x-unicode20utf8"])
    LABELS[label] = "utf-8";
  for (const label of ["utf-16le", "utf-16", "ucs-2", "unicode", "iso-10646-ucs-2", "csunicode", "unicodefeff"])
    LABELS[label] = "utf-16le";
  for (const label of ["windows-1252", "latin1", "l1", "iso-8859-1", "iso8859-1", "iso88591", "iso_8859-1",
    "iso_8859-1:1987", "iso-ir-100", "csisolatin1", "ascii", "us-ascii", "ansi_x3.4-1968", "cp1252", "x-cp1252",
    "cp819", "ibm819"])
    LABELS[label] = "windows-1252";

  const part = (bytes, start, end) => new Uint8Array(bufferOf(bytes), offsetOf(bytes) + start, end - start);

  function bytesOf(input) {
    if (input === undefined) return new Uint8Array(0);
    if (!isView(input)) return new Uint8Array(input);
    return nameOf(input)
      ? new Uint8Array(bufferOf(input), offsetOf(input), lengthOf(input))
      : new Uint8Array(viewBuffer(input), viewOffset(input), viewLength(input));
  }

  function joined(first, second) {
    const bytes = new Uint8Array(lengthOf(first) + lengthOf(second));
    setBytes(bytes, first);
    setBytes(bytes, second, lengthOf(first));
    return bytes;
  }

  // Where the last character begins if some of its bytes are missing, else the end.
  function completeEnd(bytes, encoding) {
    const end = lengthOf(bytes);
    if (encoding === "windows-1252") return end;
    if (encoding === "utf-16le") {
      const even = end - end % 2;
      return even && (bytes[even - 1] & 0xfc) === 0xd8 ? even - 2 : even;
    }
    for (let back = 1; back <= 3 && back <= end; back++) {
      const byte = bytes[end - back];
      if ((byte & 0xc0) === 0x80) continue;
      const need = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
      return need > back ? end - back : end;
    }
    return end;
  }

  class TextEncoder {
    get encoding() { return "utf-8"; }

    encode(text = "") { return encode(toWellFormed("" + text)); }

    encodeInto(text, target) {
      const bytes = encode(toWellFormed("" + text));
      const room = lengthOf(target);
      let written = lengthOf(bytes);
      if (written > room) {
        written = room;
        while (written && (bytes[written] & 0xc0) === 0x80) written -= 1;
      }
      const fitting = part(bytes, 0, written);
      setBytes(target, fitting);
      return { read: decode(fitting, "utf-8", true).length, written };
    }
  }

  class TextDecoder {
    #encoding; #fatal; #ignoreBOM; #rest = null; #started = false;

    constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
      const name = toLowerCase(replace("" + label, spaces, ""));
      this.#encoding = LABELS[name];
      if (!this.#encoding) throw new RangeError("TextDecoder knows utf-8, utf-16le and windows-1252, not " + name);
      this.#fatal = !!fatal;
      this.#ignoreBOM = !!ignoreBOM;
    }

    get encoding() { return this.#encoding; }
    get fatal() { return this.#fatal; }
    get ignoreBOM() { return this.#ignoreBOM; }

    decode(input, { stream = false } = {}) {
      let bytes = bytesOf(input);
      if (this.#rest) bytes = joined(this.#rest, bytes);
      const first = !this.#started, length = lengthOf(bytes);
      const end = stream ? completeEnd(bytes, this.#encoding) : length;
      // A copy: the caller may write into its buffer before the next call.
      this.#rest = end < length ? new Uint8Array(part(bytes, end, length)) : null;
      this.#started = stream && (this.#started || end > 0);
      const text = decode(part(bytes, 0, end), this.#encoding, this.#fatal);
      return first && !this.#ignoreBOM && text[0] === "\ufeff" ? slice(text, 1) : text;
    }
  }

  define("TextEncoder", TextEncoder);
  define("TextDecoder", TextDecoder);
})
