// URL and URLSearchParams (https://url.spec.whatwg.org). The parser is the standard's state machine, cut into
// functions for its parts.
(function (native, internal) {
  "use strict";
  const { encode } = native;
  const { define } = internal;
  const { Invalid, invalid, hex, parseHost, percentDecode, percentEncode } = internal.url;
  const PORTS = {
    __proto__: null, "http:": "80", "https:": "443", "ws:": "80", "wss:": "443", "ftp:": "21", "file:": "",
  };
  const special = (url) => url.scheme in PORTS;

  // percent-encode sets, as the ASCII characters that each adds to the C0 control set
  const FRAGMENT = ' "<>`', QUERY = ' "#<>', SPECIAL_QUERY = QUERY + "'", PATH = QUERY + "?^`{}";
  const USERINFO = PATH + "/:;=@[\\]|", FORM_KEPT = /[^A-Za-z0-9*\-._]/;

  // A URL record: { scheme ("http:"), username, password, host (or null), port, path (a list, or a text when
  // it is opaque), query, fragment (null when there is none) }

  function parse(input, base) {
    let rest = input.replace(/^[\0-\x20]+|[\0-\x20]+$/g, "").replace(/[\t\n\r]/g, "");
    const url = {
      scheme: "", username: "", password: "", host: null, port: "", path: [], query: null, fragment: null,
    };
    const hash = rest.indexOf("#");
    if (hash >= 0) {
      url.fragment = percentEncode(rest.slice(hash + 1), FRAGMENT);
      rest = rest.slice(0, hash);
    }
    const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(rest);
    if (scheme) {
      url.scheme = scheme[0].toLowerCase();
      rest = rest.slice(scheme[0].length);
      if (special(url)) {
        const slashes = /^[/\\]*/.exec(rest)[0].length;
        if (url.scheme === "file:") parseFile(url, rest, base?.scheme === "file:" ? base : null);
        else if (slashes < 2 && base?.scheme === url.scheme) parseRelative(url, rest, base);
        else parseAuthority(url, rest.slice(slashes));
      } else if (rest.startsWith("//")) parseAuthority(url, rest.slice(2));
      else if (rest[0] === "/") parsePath(url, takeQuery(url, rest));
      else {
        const opaque = percentEncode(takeQuery(url, rest), "");
        // A space at its end would be lost when the text is parsed again.
        url.path = url.query === null && url.fragment === null ? opaque : opaque.replace(/ $/, "%20");
      }
      return url;
    }
    if (!base) invalid();
    if (typeof base.path === "string") {
      if (rest || hash < 0) invalid();
      return { ...base, fragment: url.fragment };
    }
    url.scheme = base.scheme;
    if (url.scheme === "file:") parseFile(url, rest, base);
    else parseRelative(url, rest, base);
    return url;
  }

  // Split the query off, and return what stands before it.
  function takeQuery(url, text) {
    const mark = text.indexOf("?");
    if (mark < 0) return text;
    url.query = percentEncode(text.slice(mark + 1), special(url) ? SPECIAL_QUERY : QUERY);
    return text.slice(0, mark);
  }

  const slash = (url, character) => character === "/" || (character === "\\" && special(url));

  function parseRelative(url, text, base) {
    if (slash(url, text[0]) && slash(url, text[1])) {
      return parseAuthority(url, special(url) ? text.replace(/^[/\\]*/, "") : text.slice(2));
    }
    Object.assign(url, { username: base.username, password: base.password, host: base.host, port: base.port });
    mergePath(url, text, base);
  }

  function mergePath(url, text, base) {
    const path = takeQuery(url, text);
    if (!path) {
      url.path = [...base.path];
      url.query ??= base.query;
      if (text[0] === "?") url.query ??= "";
    } else if (slash(url, path[0])) parsePath(url, path);
    else {
      url.path = [...base.path];
      shorten(url);
      parsePath(url, path);
    }
  }

  function parseAuthority(url, text) {
    const end = text.search(special(url) ? /[/\\?]/ : /[/?]/);
    let authority = end < 0 ? text : text.slice(0, end);
    const at = authority.lastIndexOf("@");
    if (at >= 0) {
      const credentials = authority.slice(0, at), colon = credentials.indexOf(":");
      url.username = percentEncode(colon < 0 ? credentials : credentials.slice(0, colon), USERINFO);
      url.password = colon < 0 ? "" : percentEncode(credentials.slice(colon + 1), USERINFO);
      authority = authority.slice(at + 1);
      if (!authority) invalid();
    }
    const port = /:(\d*)$/.exec(authority.replace(/^\[[^\]]*\]/, (address) => "x".repeat(address.length)));
    if (port) authority = authority.slice(0, -port[0].length);
    if (!authority.startsWith("[") && authority.includes(":")) invalid();
    if (!authority && (special(url) || port)) invalid();
    url.host = authority ? parseHost(authority, special(url)) : "";
    if (port?.[1]) setPort(url, port[1]);
    const rest = takeQuery(url, end < 0 ? "" : text.slice(end));
    if (rest || special(url)) parsePath(url, rest);
  }

  function setPort(url, digits) {
    if (+digits > 65535) invalid();
    url.port = PORTS[url.scheme] === "" + +digits ? "" : "" + +digits;
  }

  function parseFile(url, text, base) {
    url.host = "";
    if (slash(url, text[0]) && slash(url, text[1])) {
      const rest = text.slice(2), end = rest.search(/[/\\?]/);
      const host = end < 0 ? rest : rest.slice(0, end);
      if (driveLetter(host)) return parsePath(url, takeQuery(url, rest));
      const parsed = host ? parseHost(host, true) : "";
      url.host = parsed === "localhost" ? "" : parsed;
      return parsePath(url, takeQuery(url, end < 0 ? "" : rest.slice(end)));
    }
    if (slash(url, text[0])) {
      if (base) {
        url.host = base.host;
        if (!startsWithDrive(text.slice(1)) && /^[A-Za-z]:$/.test(base.path[0] ?? "")) url.path.push(base.path[0]);
      }
      return parsePath(url, takeQuery(url, text));
    }
    if (!base) return parsePath(url, takeQuery(url, text));
    url.host = base.host;
    if (startsWithDrive(text)) parsePath(url, takeQuery(url, text));
    else mergePath(url, text, base);
  }

  const driveLetter = (text) => /^[A-Za-z][:|]$/.test(text);
  const startsWithDrive = (text) => /^[A-Za-z][:|]([/\\?#]|$)/.test(text);
  const single = (part) => /^(\.|%2e)$/i.test(part);
  const double = (part) => /^(\.|%2e)(\.|%2e)$/i.test(part);

  function shorten(url) {
    if (url.scheme === "file:" && url.path.length === 1 && /^[A-Za-z]:$/.test(url.path[0])) return;
    url.path.pop();
  }

  function parsePath(url, text) {
    const parts = (slash(url, text[0]) ? text.slice(1) : text).split(special(url) ? /[/\\]/ : "/");
    parts.forEach((part, i) => {
      const last = i === parts.length - 1;
      if (double(part)) {
        shorten(url);
        if (last) url.path.push("");
      } else if (single(part)) {
        if (last) url.path.push("");
      } else {
        const drive = url.scheme === "file:" && !url.path.length && driveLetter(part);
        url.path.push(drive ? part[0] + ":" : percentEncode(part, PATH));
      }
    });
  }

  function serializePath(url) {
    return typeof url.path === "string" ? url.path : url.path.map((part) => "/" + part).join("");
  }

  function serialize(url) {
    let text = url.scheme;
    if (url.host !== null) {
      text += "//";
      if (url.username || url.password) text += url.username + (url.password ? ":" + url.password : "") + "@";
      text += url.host + (url.port ? ":" + url.port : "");
    } else if (typeof url.path !== "string" && url.path.length > 1 && !url.path[0]) text += "/.";
    text += serializePath(url);
    return text + (url.query === null ? "" : "?" + url.query) + (url.fragment === null ? "" : "#" + url.fragment);
  }

  // application/x-www-form-urlencoded

  function parseForm(text) {
    return text.split("&").filter((pair) => pair).map((pair) => {
      const equals = pair.indexOf("="), whole = equals < 0 ? pair.length : equals;
      return [pair.slice(0, whole), pair.slice(whole + 1)].map((one) => percentDecode(one.replaceAll("+", " ")));
    });
  }

  function formEncode(text) {
    let made = "";
    for (const character of text)
      if (character === " ") made += "+";
      else if (FORM_KEPT.test(character)) for (const byte of encode(character)) made += hex(byte);
      else made += character;
    return made;
  }

  const text = (value) => ("" + value).toWellFormed();
  const owned = Symbol("owner");

  class URLSearchParams {
    #list = []; #owner = null;

    constructor(init = "", owner = null) {
      if (owner?.[owned]) this.#owner = owner[owned];
      if (typeof init !== "object" && typeof init !== "function") this.#list = parseForm(text(init).replace(/^\?/, ""));
      else if (init === null) this.#list = [["null", ""]];
      else if (typeof init[Symbol.iterator] === "function")
        for (const pair of init) {
          const both = [...pair];
          if (both.length !== 2) throw new TypeError("URLSearchParams: each pair needs a name and a value");
          this.#list.push(both.map(text));
        }
      else this.#list = Object.entries(init).map((pair) => pair.map(text));
    }

    static #changed(params) { params.#owner?.(params.toString()); }
    [owned](query) { this.#list = parseForm(query); }

    get size() { return this.#list.length; }
    append(name, value) { this.#list.push([text(name), text(value)]); URLSearchParams.#changed(this); }
    delete(name, value) {
      this.#list = this.#list.filter(([n, v]) => n !== text(name) || (value !== undefined && v !== text(value)));
      URLSearchParams.#changed(this);
    }
    get(name) { return this.#list.find(([n]) => n === text(name))?.[1] ?? null; }
    getAll(name) { return this.#list.filter(([n]) => n === text(name)).map(([, v]) => v); }
    has(name, value) {
      return this.#list.some(([n, v]) => n === text(name) && (value === undefined || v === text(value)));
    }
    set(name, value) {
      const at = this.#list.findIndex(([n]) => n === text(name));
      if (at < 0) this.#list.push([text(name), text(value)]);
      else this.#list = this.#list.filter(([n], i) => i <= at || n !== text(name)).with(at, [text(name), text(value)]);
      URLSearchParams.#changed(this);
    }
    sort() {
      this.#list.sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0);
      URLSearchParams.#changed(this);
    }
    forEach(callback, self) { for (const [name, value] of this) callback.call(self, value, name, this); }
    *entries() { for (let i = 0; i < this.#list.length; i++) yield [...this.#list[i]]; }
    *keys() { for (const [name] of this.entries()) yield name; }
    *values() { for (const [, value] of this.entries()) yield value; }
    [Symbol.iterator]() { return this.entries(); }
    toString() { return this.#list.map(([n, v]) => formEncode(n) + "=" + formEncode(v)).join("&"); }
    get [Symbol.toStringTag]() { return "URLSearchParams"; }
  }

  class URL {
    #url; #params;

    constructor(input, base) {
      this.#url = URL.#parse(input, base);
      const owner = (query) => { this.#url.query = query || null; };
      this.#params = new URLSearchParams(this.#url.query ?? "", { [owned]: owner });
    }

    static #parse(input, base) {
      try {
        return parse(text(input), base === undefined ? null : parse(text(base), null));
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        throw Object.assign(new TypeError("Invalid URL"), { code: "ERR_INVALID_URL", input: text(input) });
      }
    }

    static parse(input, base) { try { return new URL(input, base); } catch { return null; } }
    static canParse(input, base) { return URL.parse(input, base) !== null; }

    get href() { return serialize(this.#url); }
    set href(value) {
      this.#url = URL.#parse(value);
      this.#params[owned](this.#url.query ?? "");
    }
    get origin() {
      if (this.protocol === "blob:") {
        const inner = URL.parse(serializePath(this.#url));
        return inner && /^https?:$/.test(inner.protocol) ? inner.origin : "null";
      }
      return special(this.#url) && this.protocol !== "file:" ? this.protocol + "//" + this.host : "null";
    }
    get protocol() { return this.#url.scheme; }
    set protocol(value) {
      const found = /^([A-Za-z][A-Za-z0-9+.-]*)(:|$)/.exec(text(value).replace(/[\t\n\r]/g, ""));
      const url = this.#url, scheme = found && found[1].toLowerCase() + ":";
      if (!scheme || special(url) !== scheme in PORTS) return;
      if (scheme === "file:" && (url.username || url.password || url.port)) return;
      if (url.scheme === "file:" && !url.host) return;
      url.scheme = scheme;
      if (url.port === PORTS[scheme]) url.port = "";
    }
    get username() { return this.#url.username; }
    set username(value) { if (this.#hasRoom()) this.#url.username = percentEncode(text(value), USERINFO); }
    get password() { return this.#url.password; }
    set password(value) { if (this.#hasRoom()) this.#url.password = percentEncode(text(value), USERINFO); }
    get host() { return (this.#url.host ?? "") + (this.#url.port && ":" + this.#url.port); }
    set host(value) { this.#setHost(value, true); }
    get hostname() { return this.#url.host ?? ""; }
    set hostname(value) { this.#setHost(value, false); }
    get port() { return this.#url.port; }
    set port(value) {
      if (!this.#hasRoom()) return;
      const digits = /^\d*/.exec(text(value).replace(/[\t\n\r]/g, ""))[0];
      if (text(value) === "") this.#url.port = "";
      else if (digits) this.#try(() => setPort(this.#url, digits));
    }
    get pathname() { return serializePath(this.#url); }
    set pathname(value) {
      if (typeof this.#url.path === "string") return;
      this.#url.path = [];
      if (text(value) === "" && this.#url.host !== null && !special(this.#url)) return;
      const path = text(value).replace(/[\t\n\r]/g, "");
      parsePath(this.#url, path.replace(/[?#]/g, (mark) => mark === "?" ? "%3F" : "%23"));
    }
    get search() { return this.#url.query ? "?" + this.#url.query : ""; }
    set search(value) {
      const query = text(value).replace(/[\t\n\r]/g, "").replace(/^\?/, "");
      this.#url.query = query ? percentEncode(query, special(this.#url) ? SPECIAL_QUERY : QUERY) : null;
      if (text(value) === "?") this.#url.query = "";
      this.#params[owned](this.#url.query ?? "");
    }
    get searchParams() { return this.#params; }
    get hash() { return this.#url.fragment ? "#" + this.#url.fragment : ""; }
    set hash(value) {
      const fragment = text(value).replace(/[\t\n\r]/g, "").replace(/^#/, "");
      this.#url.fragment = text(value) === "" ? null : percentEncode(fragment, FRAGMENT);
    }
    toString() { return this.href; }
    toJSON() { return this.href; }
    get [Symbol.toStringTag]() { return "URL"; }

    #hasRoom() { return this.#url.host && this.#url.scheme !== "file:"; }

    #try(work) {
      const before = { ...this.#url };
      try { work(); } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        Object.assign(this.#url, before);
      }
    }

    #setHost(value, withPort) {
      const url = this.#url;
      if (typeof url.path === "string") return;
      const end = special(url) ? /[/\\?#]/ : /[/?#]/;
      const authority = text(value).replace(/[\t\n\r]/g, "").split(end)[0];
      const [, host, , port] = /^(\[[^\]]*\]|[^:]*)(:(\d*))?/.exec(authority);
      if (authority.includes("@")) return;
      if (!withPort && authority.length > host.length) return;
      if (!host && (special(url) ? url.scheme !== "file:" : url.username || url.password || url.port || port)) return;
      if (url.scheme === "file:" && host !== authority) return;
      this.#try(() => {
        const parsed = host ? parseHost(host, special(url)) : "";
        url.host = url.scheme === "file:" && parsed === "localhost" ? "" : parsed;
        if (port) this.#try(() => setPort(url, port));
      });
    }
  }

  define("URL", URL);
  define("URLSearchParams", URLSearchParams);
})
