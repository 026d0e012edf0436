// crypto (Web Cryptography API): the two methods that need the kernel's randomness and nothing else.
(function (native, internal) {
  "use strict";
  const { random, classOf } = native;
  const { bind, define, getter } = internal;
  const { DOMException, Uint8Array } = globalThis;
  const lengthOf = bind(internal.byteLength);
  const typedArray = Reflect.getPrototypeOf(Uint8Array);
  const bufferOf = getter(typedArray, "buffer"), offsetOf = getter(typedArray, "byteOffset");
  const setBytes = bind(typedArray.prototype.set);
  const padStart = bind(String.prototype.padStart);
  const toString = bind(Number.prototype.toString);
  const integers = /^(Big)?(Int|Uint)\d+(Clamped)?Array$/, test = bind(RegExp.prototype.test);

  define("crypto", {
    getRandomValues(array) {
      if (!test(integers, classOf(array)))
        throw new DOMException("getRandomValues needs a typed array of integers", "TypeMismatchError");
      const size = lengthOf(array);
      if (size > 65536)
        throw new DOMException("getRandomValues gives at most 65536 bytes at once", "QuotaExceededError");
      setBytes(new Uint8Array(bufferOf(array), offsetOf(array), size), random(size));
      return array;
    },

    randomUUID() {
      const bytes = random(16);
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      let text = "";
      for (let i = 0; i < 16; i++)
        text += (i === 4 || i === 6 || i === 8 || i === 10 ? "-" : "") + padStart(toString(bytes[i], 16), 2, "0");
      return text;
    },
  });
})
