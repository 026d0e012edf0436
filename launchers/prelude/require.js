// CommonJS (https://nodejs.org/api/modules.html): require(), and module objects that live as long as the
// plugin. Finding and compiling files is the launcher's; nested requires are calls of JavaScript functions,
// so their depth ends in a RangeError of the engine.
(function (native, internal) {
  "use strict";
  const { resolve, compile } = native;
  const { bind, define } = internal;
  const { Error, Map, TypeError } = globalThis;
  const { apply } = Reflect;
  const get = bind(Map.prototype.get), set = bind(Map.prototype.set), remove = bind(Map.prototype.delete);
  const slice = bind(String.prototype.slice), lastIndexOf = bind(String.prototype.lastIndexOf);
  const cache = new Map();

  function find(base, specifier) {
    if (typeof specifier !== "string") throw new TypeError("require() needs the name of a module as a string");
    const found = resolve(base, specifier);
    if (found[0] !== "!") return found;
    const error = new Error(slice(found, 1));
    error.code = "MODULE_NOT_FOUND";
    throw error;
  }

  function requireFor(base) {
    const require = function require(specifier) {
      const found = find(base, specifier);
      return internal.load(slice(found, 1), found[0]);
    };
    require.resolve = (specifier) => "/" + slice(find(base, specifier), 1);
    return require;
  }

  // Run a file once. In a cycle, what is there so far is what the other file gets.
  internal.load = function (name, kind) {
    const known = get(cache, name);
    if (known) return known.exports;
    if (kind === "e") return compile(name, kind);
    const path = "/" + name, folder = slice(path, 0, lastIndexOf(path, "/")) || "/";
    const require = requireFor(name);
    const module = { exports: {}, id: path, filename: path, path: folder, loaded: false, children: [], require };
    set(cache, name, module);
    let done = false;
    try {
      const code = compile(name, kind);
      if (kind === "j") module.exports = code;
      else apply(code, module.exports, [module.exports, require, module, path, folder]);
      module.loaded = done = true;
    } finally {
      if (!done) remove(cache, name);
    }
    return module.exports;
  };

  // Packages ask for the one variable, unasked, whether to check more than they need; bundlers put the same
  // text in its place.
  define("process", { env: { NODE_ENV: "production" }, browser: true });
})
