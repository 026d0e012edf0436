// Event, EventTarget, AbortController and AbortSignal (DOM Standard), for what has no tree: no bubbling.
(function (native, internal) {
  "use strict";
  const { define } = internal;
  const { DOMException, Map, TypeError } = globalThis;
  const now = () => performance.now();
  const KEEP = Symbol("dispatch");

  class Event {
    #type; #cancelable; #time = now(); #prevented = false; #stopped = false; #target = null;

    constructor(type, { cancelable = false } = {}) {
      this.#type = "" + type;
      this.#cancelable = !!cancelable;
    }

    get type() { return this.#type; }
    get target() { return this.#target; }
    get currentTarget() { return this.#target; }
    get bubbles() { return false; }
    get cancelable() { return this.#cancelable; }
    get defaultPrevented() { return this.#prevented; }
    get timeStamp() { return this.#time; }
    preventDefault() { this.#prevented ||= this.#cancelable; }
    stopPropagation() {}
    stopImmediatePropagation() { this.#stopped = true; }

    [KEEP](target) {
      if (target) this.#target = target;
      return this.#stopped;
    }
  }

  class CustomEvent extends Event {
    #detail;
    constructor(type, options = {}) { super(type, options); this.#detail = options.detail ?? null; }
    get detail() { return this.#detail; }
  }

  class EventTarget {
    #listeners = new Map();

    addEventListener(type, listener, options) {
      if (listener === null || listener === undefined) return;
      if (typeof listener !== "function" && typeof listener !== "object")
        throw new TypeError("addEventListener needs a function or an object with handleEvent");
      const { once = false, signal } = typeof options === "object" && options ? options : {};
      if (signal?.aborted) return;
      const list = this.#listeners.get(type = "" + type) ?? [];
      if (list.some((entry) => entry.listener === listener)) return;
      this.#listeners.set(type, [...list, { listener, once: !!once }]);
      signal?.addEventListener("abort", () => this.removeEventListener(type, listener), { once: true });
    }

    removeEventListener(type, listener) {
      const list = this.#listeners.get("" + type);
      if (list) this.#listeners.set("" + type, list.filter((entry) => entry.listener !== listener));
    }

    dispatchEvent(event) {
      if (!(event instanceof Event)) throw new TypeError("dispatchEvent needs an Event");
      event[KEEP](this);
      for (const { listener, once } of this.#listeners.get(event.type) ?? []) {
        if (once) this.removeEventListener(event.type, listener);
        try {
          if (typeof listener === "function") listener.call(this, event);
          else listener.handleEvent(event);
        } catch (error) {
          queueMicrotask(() => { throw error; });  // one listener's failure is not the next one's
        }
        if (event[KEEP](null)) break;
      }
      return !event.defaultPrevented;
    }
  }

  const abort = Symbol("abort"), make = Symbol("make");

  class AbortSignal extends EventTarget {
    #aborted = false; #reason; onabort = null;

    constructor(key) {
      if (key !== make) throw new TypeError("make an AbortController for a signal");
      super();
    }

    get aborted() { return this.#aborted; }
    get reason() { return this.#reason; }
    throwIfAborted() { if (this.#aborted) throw this.#reason; }

    [abort](reason) {
      if (this.#aborted) return;
      this.#aborted = true;
      this.#reason = reason === undefined ? new DOMException("This operation was aborted", "AbortError") : reason;
      const event = new Event("abort");
      if (typeof this.onabort === "function") this.onabort(event);
      this.dispatchEvent(event);
    }

    static abort(reason) {
      const signal = new AbortSignal(make);
      signal[abort](reason);
      return signal;
    }

    static timeout(milliseconds) {
      const signal = new AbortSignal(make);
      const reason = new DOMException("The operation was aborted due to timeout", "TimeoutError");
      setTimeout(() => signal[abort](reason), milliseconds);
      return signal;
    }

    static any(signals) {
      const all = [...signals], signal = new AbortSignal(make);
      const over = all.find((one) => one.aborted);
      if (over) signal[abort](over.reason);
      else for (const one of all) one.addEventListener("abort", () => signal[abort](one.reason), { once: true });
      return signal;
    }
  }

  class AbortController {
    #signal = new AbortSignal(make);
    get signal() { return this.#signal; }
    abort(reason) { this.#signal[abort](reason); }
  }

  class MessageEvent extends Event {
    #data;
    constructor(type, options = {}) { super(type, options); this.#data = options.data ?? null; }
    get data() { return this.#data; }
  }

  const peer = Symbol("peer");

  // Both ends are in this plugin: what packages use to let other work go first.
  class MessagePort extends EventTarget {
    [peer] = null; onmessage = null;

    postMessage(message, transfer) {
      const other = this[peer];
      if (!other) return;
      const data = structuredClone(message, Array.isArray(transfer) ? { transfer } : transfer);
      setImmediate(() => {
        const event = new MessageEvent("message", { data });
        if (typeof other.onmessage === "function") other.onmessage(event);
        other.dispatchEvent(event);
      });
    }
    start() {}
    close() {
      if (this[peer]) this[peer][peer] = null;
      this[peer] = null;
    }
  }

  class MessageChannel {
    port1 = new MessagePort(); port2 = new MessagePort();
    constructor() {
      this.port1[peer] = this.port2;
      this.port2[peer] = this.port1;
    }
  }

  for (const type of [MessageEvent, MessagePort, MessageChannel]) define(type.name, type);
  for (const type of [Event, CustomEvent, EventTarget, AbortSignal, AbortController]) define(type.name, type);
})
