"""What a JavaScript plugin finds beside the language itself, written in JavaScript.

The engine brings the ECMAScript library, ``performance``, ``queueMicrotask``, ``atob`` and ``btoa``.
This adds ``console``, ``TextEncoder`` and ``TextDecoder``; the work on bytes is done by the three
functions that the launcher passes in. There are no timers, no files and no network.

The source runs once in the fork server and is shared by every child. It keeps the built-in functions
that it needs, and uses no template literals, which the engine makes with ``String.prototype.concat``: a
plugin that redefines built-ins changes its own output and nothing else. Nothing that is defined here is
enumerable, so whatever is enumerable on the global object was put there by the plugin.

The value of the whole is the getter of ``byteLength``: no C function of the engine tells the true size
of a typed array whose buffer was resized.
"""

SOURCE = r"""
(function (write, encode, decode) {
  "use strict";
  const { Date, DataView, Error, Map, RangeError, RegExp, Set, String, Symbol, Uint8Array } = globalThis;
  const { apply, getPrototypeOf } = Reflect;
  const { is, keys: keysOf } = Object;
  const { isError } = Error;
  const bind = (method) => (self, ...rest) => apply(method, self, rest);
  const { stringify } = JSON;
  const { isArray } = Array;
  const { isView } = ArrayBuffer;
  const toWellFormed = bind(String.prototype.toWellFormed);
  const toLowerCase = bind(String.prototype.toLowerCase);
  const trim = bind(String.prototype.trim);
  const slice = bind(String.prototype.slice);
  const dateText = bind(Date.prototype.toString);
  const regexpText = bind(RegExp.prototype.toString);
  const getter = (type, name) => bind(Object.getOwnPropertyDescriptor(type.prototype, name).get);
  const symbolText = getter(Symbol, "description");
  const typedArray = getPrototypeOf(Uint8Array);
  const bufferOf = getter(typedArray, "buffer");
  const offsetOf = getter(typedArray, "byteOffset");
  const lengthOf = getter(typedArray, "byteLength");
  const viewBuffer = getter(DataView, "buffer");
  const viewOffset = getter(DataView, "byteOffset");
  const viewLength = getter(DataView, "byteLength");
  const nameOf = getter(typedArray, Symbol.toStringTag);
  const setBytes = bind(typedArray.prototype.set);
  const mapEntries = bind(Map.prototype.forEach);
  const setValues = bind(Set.prototype.forEach);
  const define = (name, value) =>
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });

  // console

  const MAX_ITEMS = 50, MAX_DEPTH = 3;

  function list(open, close, total, part) {
    if (!total) return open + close;
    let text = "";
    for (let i = 0; i < total && i < MAX_ITEMS; i++) text += (i ? ", " : "") + part(i);
    if (total > MAX_ITEMS) text += ", ... " + (total - MAX_ITEMS) + " more";
    return open + " " + text + " " + close;
  }

  function typeName(value) {
    const constructor = getPrototypeOf(value)?.constructor;
    return typeof constructor === "function" && typeof constructor.name === "string" ? constructor.name : "";
  }

  function inspect(value, depth) {
    switch (typeof value) {
      case "string": return depth ? stringify(value) : value;
      case "bigint": return value + "n";
      case "symbol": return "Symbol(" + (symbolText(value) ?? "") + ")";
      case "function": return "[Function: " + (value.name || "(anonymous)") + "]";
      case "object": return value === null ? "null" : inspectObject(value, depth);
      default: return is(value, -0) ? "-0" : "" + value;
    }
  }

  function inspectObject(value, depth) {
    if (isError(value)) {
      const stack = typeof value.stack === "string" ? trim(value.stack) : "";
      return stack ? String(value) + "\n    " + stack : String(value);
    }
    if (depth > MAX_DEPTH) return isArray(value) ? "[Array]" : "[Object]";
    const inner = (item) => inspect(item, depth + 1);
    const name = typeName(value);
    if (isArray(value)) return list("[", "]", value.length, (i) => inner(value[i]));
    if (isView(value) && nameOf(value)) return list(name + " [", "]", value.length, (i) => inner(value[i]));
    if (value instanceof Date) return dateText(value);
    if (value instanceof RegExp) return regexpText(value);
    if (value instanceof Set) {
      const items = [];
      setValues(value, (item) => { items[items.length] = item; });
      return list("Set {", "}", items.length, (i) => inner(items[i]));
    }
    if (value instanceof Map) {
      const keys = [], items = [];
      mapEntries(value, (item, key) => { keys[keys.length] = key; items[items.length] = item; });
      return list("Map {", "}", keys.length, (i) => inner(keys[i]) + " => " + inner(items[i]));
    }
    const keys = keysOf(value);
    const open = name === "Object" || !name ? "{" : name + " {";
    return list(open, "}", keys.length, (i) => keys[i] + ": " + inner(value[keys[i]]));
  }

  function printer(descriptor) {
    return (...values) => {
      let text = "";
      for (let i = 0; i < values.length; i++) text += (i ? " " : "") + inspect(values[i], 0);
      write(descriptor, text);
    };
  }

  const out = printer(1), err = printer(2);
  define("console", { log: out, info: out, debug: out, warn: err, error: err });

  // TextEncoder and TextDecoder (Encoding Standard), UTF-8 only

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
  function completeEnd(bytes) {
    const end = lengthOf(bytes);
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

    encode(text = "") { return encode(toWellFormed(text)); }

    encodeInto(text, target) {
      const bytes = encode(toWellFormed(text));
      const room = lengthOf(target);
      let written = lengthOf(bytes);
      if (written > room) {
        written = room;
        while (written && (bytes[written] & 0xc0) === 0x80) written -= 1;
      }
      const fitting = part(bytes, 0, written);
      setBytes(target, fitting);
      return { read: decode(fitting, true).length, written };
    }
  }

  class TextDecoder {
    #fatal; #ignoreBOM; #rest = null; #started = false;

    constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
      const name = toLowerCase(trim("" + label));
      if (name !== "utf-8" && name !== "utf8" && name !== "unicode-1-1-utf-8")
        throw new RangeError("TextDecoder knows utf-8 only, not " + name);
      this.#fatal = !!fatal;
      this.#ignoreBOM = !!ignoreBOM;
    }

    get encoding() { return "utf-8"; }
    get fatal() { return this.#fatal; }
    get ignoreBOM() { return this.#ignoreBOM; }

    decode(input, { stream = false } = {}) {
      let bytes = bytesOf(input);
      if (this.#rest) bytes = joined(this.#rest, bytes);
      const first = !this.#started, length = lengthOf(bytes), end = stream ? completeEnd(bytes) : length;
      // A copy: the caller may write into its buffer before the next call.
      this.#rest = end < length ? new Uint8Array(part(bytes, end, length)) : null;
      this.#started = stream && (this.#started || end > 0);
      const text = decode(part(bytes, 0, end), this.#fatal);
      return first && !this.#ignoreBOM && text[0] === "\ufeff" ? slice(text, 1) : text;
    }
  }

  define("TextEncoder", TextEncoder);
  define("TextDecoder", TextDecoder);

  return Object.getOwnPropertyDescriptor(typedArray.prototype, "byteLength").get;
})
"""
