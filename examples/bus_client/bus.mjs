// A visitor of the message bus in JavaScript: docs/protocol.md in 150 lines.
//
//   npm install && node bus.mjs /run/frys list
//   node bus.mjs /run/frys call ID FUNCTION '["arguments", 1]'
//   node bus.mjs /run/frys publish TYPE '{"any": "data"}'
//   node bus.mjs /run/frys listen 'order.*' 3

import { randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import { decode, encode } from "@msgpack/msgpack";
import { Dealer } from "zeromq";

const [HELLO, WELCOME, NEWS, CALL, RESULT, FAILURE, , EVENT, PUBLISH, , , BYE] = Array(12).keys();
const VERSION = 1;
const PATIENCE_MS = 5000;
const USAGE =
  "usage: node bus.mjs FOLDER list | call ID FUNCTION [ARGUMENTS] | publish TYPE [DATA] | listen PATTERN [COUNT]";

/** One supervisor, once it has answered HELLO. */
class Supervisor {
  #socket = new Dealer({ linger: 200, maxMessageSize: 64 << 20 });
  #number = 0;
  #waiting = new Map();

  /** Connect, say what is wanted, and wait for the answer; an error when nobody is there or answers. */
  static async meet(address, events, onEvent) {
    const it = new Supervisor();
    for (const end of ["connect:retry", "disconnect"]) it.#socket.events.on(end, () => it.#gone("ended"));
    it.#socket.connect(address);
    const welcomed = new Promise((done, fail) => it.#waiting.set(WELCOME, { done, fail }));
    const patience = setTimeout(() => it.#gone("does not answer"), PATIENCE_MS);
    const about = { program: "visitor", pid: process.pid, plugins: {}, events };
    it.#send([HELLO, VERSION, randomBytes(8).toString("hex"), about]).catch(() => it.#gone("ended"));
    it.#read(onEvent).catch((error) => it.#gone(error.message));
    try {
      await welcomed;
    } catch (error) {
      it.close();
      throw error;
    } finally {
      clearTimeout(patience);
    }
    return it;
  }

  call(plugin, name, args) {
    return this.#ask((number) => [CALL, number, plugin, name, args, 0, "", [], {}]);
  }

  publish(type, data) {
    return this.#ask((number) => [PUBLISH, number, type, data]);
  }

  close() {
    this.#socket.close();
  }

  /** Nothing will be answered any more: whoever waits is told, with the facts of such a failure. */
  #gone(what) {
    const facts = { why: "undelivered", facts: { retryable: true } };
    const error = Object.assign(new Error(`the supervisor ${what}`), facts);
    for (const { fail } of this.#waiting.values()) fail(error);
    this.#waiting.clear();
  }

  #send(message) {
    return this.#socket.send(encode(message));
  }

  #ask(make) {
    const number = ++this.#number;
    return new Promise((done, fail) => {
      this.#waiting.set(`request ${number}`, { done, fail });
      this.#send(make(number)).catch(fail);
    });
  }

  async #read(onEvent) {
    for await (const [frame] of this.#socket) {
      const [kind, ...fields] = decode(frame);
      const answered = (key) => {
        const waiting = this.#waiting.get(key);
        this.#waiting.delete(key);
        return waiting;
      };
      if (kind === WELCOME) {
        const [version, name, about] = fields;
        if (version !== VERSION) throw new Error(`speaks version ${version} of the bus, not ${VERSION}`);
        Object.assign(this, { name, plugins: new Map(Object.entries(about.plugins)) });
        answered(WELCOME)?.done();
      } else if (kind === NEWS) {
        for (const [id, plugin] of Object.entries(fields[0]))
          plugin ? this.plugins.set(id, plugin) : this.plugins.delete(id);
      } else if (kind === RESULT) answered(`request ${fields[0]}`)?.done(fields[1]);
      else if (kind === FAILURE) {
        const [number, why, message, facts] = fields;
        answered(`request ${number}`)?.fail(Object.assign(new Error(message), { why, facts }));
      } else if (kind === EVENT) onEvent(fields[0], fields[1], fields[2]);
      else if (kind === BYE) this.#gone("left");
      // What a later version has besides these, a visitor may leave unread.
    }
  }
}

/** Everybody who is there; who does not answer is named and left out. */
async function meetAll(folder, events, onEvent) {
  const found = readdirSync(folder).filter((file) => file.endsWith(".json"));
  const addresses = found.map((file) => `ipc://${folder}/${file.replace(/json$/, "sock")}`);
  const met = await Promise.allSettled(addresses.map((each) => Supervisor.meet(each, events, onEvent)));
  met.forEach(({ reason }, at) => reason && console.error(`bus: ${addresses[at]}: ${reason.message}`));
  return met.filter(({ value }) => value).map(({ value }) => value);
}

async function main([folder, what, ...words]) {
  const least = { list: 0, call: 2, publish: 1, listen: 1 }[what];
  if (least === undefined || words.length < least) throw new Error(USAGE);
  let left = Number(words[1] ?? Infinity);
  let enough;
  const heard = new Promise((done) => (enough = done));
  const onEvent = (type, data, source) => {
    console.log(JSON.stringify({ source, type, data }));
    if (--left === 0) enough();
  };
  const supervisors = await meetAll(folder, what === "listen" ? { [words[0]]: 1 } : {}, onEvent);
  try {
    if (!supervisors.length) throw new Error(`no supervisor answers in ${folder}`);
    if (what === "list") {
      for (const { name, plugins } of supervisors)
        for (const [id, { version, exports }] of plugins)
          console.log(JSON.stringify({ supervisor: name, id, version, exports: Object.keys(exports) }));
    } else if (what === "call") {
      const it = supervisors.find(({ plugins }) => plugins.has(words[0]));
      if (!it) throw new Error(`no supervisor in ${folder} runs ${words[0]}`);
      const args = JSON.parse(words[2] ?? "[]");
      if (!Array.isArray(args)) throw new Error(`${words[2]} is no list of arguments, such as [1, "two"]`);
      try {
        console.log(JSON.stringify(await it.call(words[0], words[1], args)));
      } catch ({ why, message, facts }) {
        console.log(JSON.stringify({ why, message, facts }));
        process.exitCode = 1;
      }
    } else if (what === "publish") {
      console.log(await supervisors[0].publish(words[0], JSON.parse(words[1] ?? "null")));
    } else {
      console.log("listening");
      await heard;
    }
  } finally {
    for (const it of supervisors) it.close();
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(`bus: ${error.message}`);
  process.exitCode = 1;
}
