// A visitor of the message bus in JavaScript: docs/protocol.md in 100 lines.
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

/** One supervisor, once it has answered HELLO. */
class Supervisor {
  #socket = new Dealer({ linger: 200, maxMessageSize: 64 << 20 });
  #number = 0;
  #waiting = new Map();

  /** Connect, say what is wanted, and wait for the answer. */
  static async meet(address, events, onEvent) {
    const it = new Supervisor();
    it.#socket.connect(address);
    const about = { program: "visitor", pid: process.pid, plugins: {}, events };
    await it.#send([HELLO, VERSION, randomBytes(8).toString("hex"), about]);
    const welcomed = new Promise((done) => it.#waiting.set(WELCOME, { done }));
    it.#read(onEvent);
    await welcomed;
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
        if (version !== VERSION) throw new Error(`version ${version} of the bus, not ${VERSION}`);
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
      else if (kind === BYE) {
        for (const { fail } of this.#waiting.values()) fail?.(new Error("the supervisor left"));
        this.#waiting.clear();
      } // what a later version has besides these, a visitor may leave unread
    }
  }
}

const [folder, what, ...words] = process.argv.slice(2);
let left = what === "listen" ? Number(words[1]) : 0;
let enough;
const heard = new Promise((done) => (enough = done));
const onEvent = (type, data, source) => {
  console.log(JSON.stringify({ source, type, data }));
  if (--left === 0) enough();
};
const found = readdirSync(folder).filter((file) => file.endsWith(".json"));
const addresses = found.map((file) => `ipc://${folder}/${file.replace(/json$/, "sock")}`);
const events = what === "listen" ? { [words[0]]: 1 } : {};
const supervisors = await Promise.all(addresses.map((each) => Supervisor.meet(each, events, onEvent)));

if (what === "list") {
  for (const { name, plugins } of supervisors)
    for (const [id, { version, exports }] of plugins)
      console.log(JSON.stringify({ supervisor: name, id, version, exports: Object.keys(exports) }));
} else if (what === "call") {
  const it = supervisors.find(({ plugins }) => plugins.has(words[0]));
  if (!it) throw new Error(`no supervisor runs ${words[0]}`);
  try {
    console.log(JSON.stringify(await it.call(words[0], words[1], JSON.parse(words[2]))));
  } catch ({ why, message, facts }) {
    console.log(JSON.stringify({ why, message, facts }));
    process.exitCode = 1;
  }
} else if (what === "publish") {
  console.log(await supervisors[0].publish(words[0], JSON.parse(words[1])));
} else if (what === "listen") {
  console.log("listening");
  await heard;
}
for (const it of supervisors) it.close();
