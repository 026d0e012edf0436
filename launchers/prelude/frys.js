// The `frys` object: what a plugin may ask its host. types/frys.d.ts describes it for editors.
(function (native, internal) {
  "use strict";
  const { ask, decode, encode } = native;
  const { define, bind, format } = internal;
  const { Error, Promise, TypeError, Uint8Array } = globalThis;
  const { parse } = JSON;
  const { freeze, defineProperty } = Object;
  const { isView } = ArrayBuffer;
  const toWellFormed = bind(String.prototype.toWellFormed);

  class FrysError extends Error {
    constructor(reason, message) {
      super(message);
      hide(this, "reason", reason);
    }
  }
  hide(FrysError.prototype, "name", "FrysError");

  function hide(target, name, value) {
    defineProperty(target, name, { value, writable: true, configurable: true, enumerable: false });
  }

  function service(name, ...args) {
    const answer = ask(name, args);
    if (answer.length === 1) return answer[0];
    throw new FrysError(answer[0], answer[1]);
  }

  // The host works while the plugin waits; a promise is what its authors expect of a request.
  const later = (work) => (...args) => new Promise((resolve) => resolve(work(...args)));

  const log = (level, message) => { service("log", "" + level, format([message])); };
  for (const level of ["trace", "debug", "info", "warning", "error"])
    hide(log, level, (message) => log(level, message));

  class Response {
    constructor({ status, headers, body }) {
      this.status = status;
      this.headers = headers;
      this.body = body;
    }
    get ok() { return this.status >= 200 && this.status <= 299; }
    text() { return decode(this.body, "utf-8", false); }
    json() { return parse(this.text()); }
  }

  function request(url, options) {
    if (typeof options !== "object" || options === null) throw new TypeError("frys.http: options must be an object");
    const { method = "GET", headers = {}, body = null, timeoutMs = null, ...unknown } = options;
    for (const key in unknown) throw new TypeError("frys.http has no option " + key);
    const data = typeof body === "string" ? encode(toWellFormed(body)) : body;
    if (data !== null && !(isView(data) || data instanceof ArrayBuffer))
      throw new TypeError("frys.http: body must be a string, a Uint8Array or an ArrayBuffer");
    const question = { method: "" + method, url: "" + url, headers: { ...headers }, body: data };
    if (timeoutMs !== null) question.timeout_ms = timeoutMs;
    return new Response(service("http", question));
  }

  define("FrysError", FrysError);
  define("frys", freeze({
    log,
    config: (key) => key === undefined ? service("config") : service("config", key),
    traceparent: () => service("trace"),
    kv: freeze({
      get: (key) => service("kv.get", key),
      set: (key, value) => { service("kv.set", key, value); },
      delete: (key) => service("kv.delete", key),
      keys: (prefix = "") => service("kv.keys", prefix),
    }),
    http: later((url, options = {}) => request(url, options)),
    call: later((target, name, ...args) => service("call", target, name, args)),
    emit: (type, data = null) => service("emit", type, data),
    host: (name, ...args) => service("host", name, args),
  }));
})
