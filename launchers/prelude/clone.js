// structuredClone (HTML Standard, "Safe passing of structured data").
(function (native, internal) {
  "use strict";
  const { classOf } = native;
  const { Array, ArrayBuffer, BigInt, DataView, Date, Error, Map, Object, RegExp, Set, String } = globalThis;
  const ERRORS = { __proto__: null, Error };
  for (const type of [EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError])
    ERRORS[type.name] = type;

  function refuse(what) {
    throw new DOMException(what + " could not be cloned", "DataCloneError");
  }

  function clone(value, seen) {
    if (typeof value === "symbol") refuse(String(value));
    if (typeof value === "function") refuse("function " + value.name);
    if (typeof value !== "object" || value === null) return value;
    if (seen.has(value)) return seen.get(value);
    const kind = classOf(value), copy = shallow(value, kind, seen);
    seen.set(value, copy);
    switch (kind) {
      case "Map":
        for (const [key, item] of [...value]) copy.set(clone(key, seen), clone(item, seen));
        break;
      case "Set":
        for (const item of [...value]) copy.add(clone(item, seen));
        break;
      case "Error":
        if (Object.hasOwn(value, "cause")) hide(copy, "cause", clone(value.cause, seen));
        break;
      case "Array": case "Object": case "Arguments":
        for (const key of Object.keys(value))
          if (Object.hasOwn(value, key)) show(copy, key, clone(value[key], seen));
    }
    return copy;
  }

  const hide = (copy, key, value) =>
    Object.defineProperty(copy, key, { value, writable: true, configurable: true, enumerable: false });
  // Defined, not assigned: assigning "__proto__" would change the prototype.
  const show = (copy, key, value) =>
    Object.defineProperty(copy, key, { value, writable: true, configurable: true, enumerable: true });

  // The object without what it holds, which may lead back to it.
  function shallow(value, kind, seen) {
    switch (kind) {
      case "Object": case "Arguments": return {};
      case "Array": { const copy = []; copy.length = value.length; return copy; }
      case "Map": return new Map();
      case "Set": return new Set();
      case "Date": return new Date(+value);
      case "RegExp": return new RegExp(value.source, value.flags);
      case "Boolean": case "Number": case "String": case "BigInt": return Object(value.valueOf());
      case "Error": return error(value);
      case "DOMException": return new DOMException(value.message, value.name);
      case "ArrayBuffer": return value.slice(0);
    }
    if (!ArrayBuffer.isView(value)) refuse("a value of type " + kind);
    const buffer = clone(value.buffer, seen);
    if (kind === "DataView") return new DataView(buffer, value.byteOffset, value.byteLength);
    return new globalThis[kind](buffer, value.byteOffset, value.length);
  }

  function error(value) {
    const copy = new (ERRORS[value.name] ?? Error)(value.message === undefined ? undefined : String(value.message));
    hide(copy, "stack", String(value.stack));
    return copy;
  }

  internal.define("structuredClone", function structuredClone(value, options) {
    const seen = new Map();
    for (const item of options?.transfer ?? []) {
      if (classOf(item) !== "ArrayBuffer" || item.detached || seen.has(item)) refuse("what stands in transfer");
      seen.set(item, null);
    }
    const moved = [...seen.keys()];
    for (const item of moved) seen.set(item, item.slice(0));
    const copy = clone(value, seen);
    for (const item of moved) item.transfer();
    return copy;
  });
})
