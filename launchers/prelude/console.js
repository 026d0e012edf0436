// console (https://console.spec.whatwg.org), with values shown as Node's util.inspect shows them on one line.
(function (native, internal) {
  "use strict";
  const { write, classOf } = native;
  const { bind, getter, define } = internal;
  const { Map, Number, String, parseFloat, parseInt } = globalThis;
  const { getPrototypeOf } = Reflect;
  const { is, hasOwn, getOwnPropertyDescriptor, keys: keysOf } = Object;
  const { isError } = Error;
  const { isArray } = Array;
  const { stringify } = JSON;
  const { now } = performance;
  const time = () => now.call(performance);
  const slice = bind(String.prototype.slice);
  const trim = bind(String.prototype.trim);
  const includes = bind(String.prototype.includes);
  const startsWith = bind(String.prototype.startsWith);
  const replaceAll = bind(String.prototype.replaceAll);
  const toFixed = bind(Number.prototype.toFixed);
  const sourceOf = bind(Function.prototype.toString);
  const isoText = bind(Date.prototype.toISOString);
  const timeOf = bind(Date.prototype.getTime);
  const regexpText = bind(RegExp.prototype.toString);
  const symbolText = getter(Symbol, "description");
  const bufferLength = getter(ArrayBuffer, "byteLength");
  const mapEntries = bind(Map.prototype.forEach);
  const setValues = bind(Set.prototype.forEach);
  const mapGet = bind(Map.prototype.get), mapSet = bind(Map.prototype.set), mapDelete = bind(Map.prototype.delete);
  const identifier = bind(RegExp.prototype.test), word = /^[A-Za-z_$][\w$]*$/;

  const MAX_ITEMS = 100, MAX_DEPTH = 2, MAX_ROOM = 2000;
  let room = 0;
  // Lists by links: assigning to an array's index would run a setter that the plugin put there.
  let around = null, referred = null;

  function list(open, close, total, part) {
    if (!total) return open + close;
    let text = "", shown = 0;
    while (shown < total && shown < MAX_ITEMS && room > 0) {
      room -= 1;
      text += (shown ? ", " : "") + part(shown);
      shown += 1;
    }
    const more = total - shown;
    if (more) text += (shown ? ", " : "") + "... " + more + " more item" + (more > 1 ? "s" : "");
    return open + " " + text + " " + close;
  }

  function quoted(text) {
    const json = stringify(text);
    if (!includes(text, "'")) return "'" + replaceAll(slice(json, 1, -1), '\\"', '"') + "'";
    if (!includes(text, '"')) return json;
    return "'" + replaceAll(replaceAll(slice(json, 1, -1), '\\"', '"'), "'", "\\'") + "'";
  }

  function typeName(value) {
    const constructor = getPrototypeOf(value)?.constructor;
    return typeof constructor === "function" && typeof constructor.name === "string" ? constructor.name : "";
  }

  function inspect(value, depth) {
    switch (typeof value) {
      case "string": return depth ? quoted(value) : value;
      case "bigint": return value + "n";
      case "symbol": return "Symbol(" + (symbolText(value) ?? "") + ")";
      case "function": return inspectFunction(value);
      case "object": return value === null ? "null" : inspectObject(value, depth);
      default: return is(value, -0) ? "-0" : "" + value;
    }
  }

  function inspectFunction(value) {
    const kind = startsWith(sourceOf(value), "class") ? "class" : classOf(value);
    const name = typeof value.name === "string" ? value.name : "";
    if (kind === "class") return "[class " + (name || "(anonymous)") + "]";
    const shown = kind === "AsyncFunction" || kind === "GeneratorFunction" ? kind : "Function";
    return "[" + shown + (name ? ": " + name : " (anonymous)") + "]";
  }

  function inspectObject(value, depth) {
    for (let outer = around; outer; outer = outer.next) if (outer.value === value) return circular(value);
    if (depth > MAX_DEPTH) return isArray(value) ? "[Array]" : "[" + (typeName(value) || "Object") + "]";
    around = { value, next: around };
    const text = inspectInside(value, depth);
    around = around.next;
    for (let known = referred; known; known = known.next)
      if (known.value === value) return "<ref *" + known.number + "> " + text;
    return text;
  }

  function circular(value) {
    for (let known = referred; known; known = known.next)
      if (known.value === value) return "[Circular *" + known.number + "]";
    referred = { value, number: (referred?.number ?? 0) + 1, next: referred };
    return "[Circular *" + referred.number + "]";
  }

  function inspectInside(value, depth) {
    const inner = (item) => inspect(item, depth + 1);
    if (isError(value)) return inspectError(value, inner);
    const kind = classOf(value), name = typeName(value);
    switch (kind) {
      case "Array": {
        const item = (i) => hasOwn(value, i) ? inner(value[i]) : "<1 empty item>";
        return list(name === "Array" ? "[" : name + "(" + value.length + ") [", "]", value.length, item);
      }
      case "Date": return is(timeOf(value), NaN) ? "Invalid Date" : isoText(value);
      case "RegExp": return regexpText(value);
      case "Set": {
        const items = [];
        setValues(value, (item) => { items[items.length] = item; });
        return list("Set(" + items.length + ") {", "}", items.length, (i) => inner(items[i]));
      }
      case "Map": {
        const keys = [], items = [];
        mapEntries(value, (item, key) => { keys[keys.length] = key; items[items.length] = item; });
        const item = (i) => inner(keys[i]) + " => " + inner(items[i]);
        return list("Map(" + keys.length + ") {", "}", keys.length, item);
      }
      case "ArrayBuffer": return "ArrayBuffer { byteLength: " + bufferLength(value) + " }";
      case "Number": case "String": case "Boolean": case "BigInt": case "Symbol":
        return "[" + kind + ": " + inner(value.valueOf()) + "]";
    }
    if (ArrayBuffer.isView(value) && kind !== "DataView") {
      const total = value.length;
      return list(name + "(" + total + ") [", "]", total, (i) => inner(value[i]));
    }
    return inspectPlain(value, name, inner);
  }

  function inspectError(value, inner) {
    const stack = typeof value.stack === "string" ? trim(value.stack) : "";
    const text = stack ? String(value) + "\n    " + stack : String(value);
    return hasOwn(value, "cause") ? text + " { [cause]: " + inner(value.cause) + " }" : text;
  }

  function inspectPlain(value, name, inner) {
    const keys = keysOf(value);
    const open = name === "Object" ? "{" : name ? name + " {" : "[Object: null prototype] {";
    return list(open, "}", keys.length, (i) => {
      const key = keys[i], found = getOwnPropertyDescriptor(value, key);
      const shown = identifier(word, key) ? key : quoted(key);
      if (!found || "value" in found) return shown + ": " + inner(found?.value);
      return shown + ": " + (found.get && found.set ? "[Getter/Setter]" : found.get ? "[Getter]" : "[Setter]");
    });
  }

  // The formatter of the console standard: the first text may hold %s, %d, %i, %f, %j, %o, %O, %c and %%.
  function format(values) {
    room = MAX_ROOM;
    around = referred = null;
    let text = "", next = 0;
    if (typeof values[0] === "string" && values.length > 1 && includes(values[0], "%")) {
      const pattern = values[0];
      let from = 0;
      next = 1;
      for (let i = 0; i < pattern.length - 1; i++) {
        if (pattern[i] !== "%") continue;
        const kind = pattern[i + 1];
        if (kind !== "%" && (next >= values.length || !includes("sdifjoOc", kind))) continue;
        text += slice(pattern, from, i) + (kind === "%" ? "%" : formatOne(kind, values[next++]));
        from = ++i + 1;
      }
      text += slice(pattern, from);
    }
    for (; next < values.length; next++) text += (next ? " " : "") + inspect(values[next], 0);
    return text;
  }

  internal.format = format;

  function formatOne(kind, value) {
    switch (kind) {
      case "s": return inspect(value, 0);
      case "d": case "i": case "f": {
        if (typeof value === "bigint") return value + "n";
        if (typeof value === "symbol" || (typeof value === "object" && value !== null)) return "NaN";
        return inspect(kind === "d" ? Number(value) : kind === "i" ? parseInt(value, 10) : parseFloat(value), 0);
      }
      case "j": return "" + stringify(value);
      case "c": return "";
      default: return inspect(value, 1);
    }
  }

  let indent = "";
  const print = (descriptor, text) => write(descriptor, indent + text);
  const out = (...values) => print(1, format(values));
  const err = (...values) => print(2, format(values));
  const counts = new Map(), started = new Map();
  const label = (name) => name === undefined ? "default" : "" + name;

  function elapsed(name, rest) {
    const since = mapGet(started, name);
    if (since === undefined) return err("No such label '" + name + "' for console.time()");
    out(name + ": " + toFixed(time() - since, 3) + "ms", ...rest);
  }

  define("console", {
    log: out, info: out, debug: out, warn: err, error: err, table: out,
    dir: (value) => print(1, format([value])),
    trace: (...values) => {
      const stack = trim(new Error().stack);
      err("Trace" + (values.length ? ": " + format(values) : "") + "\n    " + stack);
    },
    assert: (condition, ...values) => {
      if (!condition) print(2, "Assertion failed" + (values.length ? ": " + format(values) : ""));
    },
    count: (name) => {
      const count = (mapGet(counts, label(name)) ?? 0) + 1;
      mapSet(counts, label(name), count);
      out(label(name) + ": " + count);
    },
    countReset: (name) => { mapDelete(counts, label(name)); },
    time: (name) => { mapSet(started, label(name), time()); },
    timeLog: (name, ...rest) => elapsed(label(name), rest),
    timeEnd: (name) => { elapsed(label(name), []); mapDelete(started, label(name)); },
    group: (...values) => { if (values.length) out(...values); if (indent.length < 40) indent += "  "; },
    groupCollapsed: (...values) => { if (values.length) out(...values); if (indent.length < 40) indent += "  "; },
    groupEnd: () => { indent = slice(indent, 2); },
  });
})
