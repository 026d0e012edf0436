// Timers (HTML Standard, "Timers"). The launcher runs them while a call waits for a promise: it asks for the
// next one with `fire` and sleeps until then.
(function (native, internal) {
  "use strict";
  const { bind, define, getter } = internal;
  const { Map, TypeError } = globalThis;
  const { apply } = Reflect;
  const { now } = performance;
  const time = () => now.call(performance);
  const get = bind(Map.prototype.get), set = bind(Map.prototype.set), remove = bind(Map.prototype.delete);
  const sizeOf = getter(Map, "size"), sort = bind(Array.prototype.sort);

  const MAX_DELAY = 0x7fffffff;  // longer ones fire at once, as everywhere
  const live = new Map();
  const heap = [];  // by due time, then by age; what was cleared stays until its time comes
  let last = 0;

  const before = (a, b) => a.due < b.due || (a.due === b.due && a.age < b.age);

  function push(timer) {
    let at = heap.length;
    while (at && before(timer, heap[(at - 1) >> 1])) {
      heap[at] = heap[(at - 1) >> 1];
      at = (at - 1) >> 1;
    }
    heap[at] = timer;
  }

  function pop() {
    const first = heap[0], moved = heap[heap.length - 1], length = heap.length -= 1;
    let at = 0;
    while (length) {
      let child = 2 * at + 1;
      if (child + 1 < length && before(heap[child + 1], heap[child])) child += 1;
      if (child >= length || !before(heap[child], moved)) break;
      heap[at] = heap[child];
      at = child;
    }
    if (length) heap[at] = moved;
    return first;
  }

  // An immediate is due at once: after timers that are late, before all others.
  function start(name, callback, delay, interval, args) {
    if (typeof callback !== "function") throw new TypeError(name + " needs a function");
    const wait = delay >= 1 && delay <= MAX_DELAY ? +delay : 1;
    const age = ++last;
    const timer = { age, due: delay < 0 ? time() : time() + wait, every: interval ? wait : 0, callback, args };
    set(live, age, timer);
    push(timer);
    return age;
  }

  function clear(id) {
    if (remove(live, typeof id === "string" ? +id : id) && heap.length > 2 * sizeOf(live) + 64) compact();
  }

  // Timers that guard something are mostly cleared: what they hold must not wait for their time.
  function compact() {
    let kept = 0;
    for (let at = 0; at < heap.length; at++)
      if (get(live, heap[at].age) === heap[at]) heap[kept++] = heap[at];
    heap.length = kept;
    sort(heap, (a, b) => before(a, b) ? -1 : 1);
  }

  define("setTimeout", function setTimeout(callback, delay = 0, ...args) {
    return start("setTimeout", callback, delay >= 0 ? delay : 0, false, args);
  });
  define("setInterval", function setInterval(callback, delay = 0, ...args) {
    return start("setInterval", callback, delay >= 0 ? delay : 0, true, args);
  });
  define("setImmediate", function setImmediate(callback, ...args) {
    return start("setImmediate", callback, -1, false, args);
  });
  define("clearTimeout", function clearTimeout(id) { clear(id); });
  define("clearInterval", function clearInterval(id) { clear(id); });
  define("clearImmediate", function clearImmediate(id) { clear(id); });

  // Run what is due, one timer a call, and say in how many milliseconds the next one is; -1 for none.
  internal.fire = function () {
    while (heap.length) {
      const timer = heap[0];
      if (get(live, timer.age) !== timer) { pop(); continue; }
      const wait = timer.due - time();
      if (wait > 0) return wait;
      pop();
      if (timer.every) {
        timer.due = time() + timer.every;
        push(timer);
      } else remove(live, timer.age);
      apply(timer.callback, undefined, timer.args);
      return 0;
    }
    return -1;
  };
})
