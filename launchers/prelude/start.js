// What the other files of this folder share. Each is one function of (native, internal): the launcher's own
// functions, and an object for what the files and the launcher take from each other.
//
// The files run once in the fork server and are shared by every child. They keep the built-in functions on
// which the launcher depends, and there use no template literals, which the engine makes with
// String.prototype.concat: a plugin that redefines built-ins changes its own output and nothing else. Nothing
// that is defined here is enumerable, so whatever is enumerable on the global object is the plugin's.
(function (native, internal) {
  "use strict";
  const { apply, getPrototypeOf } = Reflect;
  const { defineProperty, getOwnPropertyDescriptor } = Object;
  const typedArray = getPrototypeOf(Uint8Array);

  internal.bind = (method) => (self, ...rest) => apply(method, self, rest);
  internal.getter = (type, name) => internal.bind(getOwnPropertyDescriptor(type.prototype, name).get);
  internal.define = (name, value) =>
    defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  internal.define("performance", performance);
  internal.define("self", globalThis);  // as in workers, whose builds of packages are taken
  // No C function of the engine tells the true size of a typed array whose buffer was resized.
  internal.byteLength = getOwnPropertyDescriptor(typedArray.prototype, "byteLength").get;
})
