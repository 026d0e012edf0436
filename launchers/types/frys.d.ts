// What a JavaScript plugin finds beside the language and the web's usual small globals: the object `frys`.
// For an editor, in a plugin's folder: /// <reference path="frys.d.ts" />

/** What travels between plugins and hosts. Integers beyond 53 bits are bigint; Uint8Array is bytes. */
type FrysValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | FrysValue[]
  | { [key: string]: FrysValue };

type FrysLevel = "trace" | "debug" | "info" | "warning" | "error";

/** The host refused. Every function of `frys` throws it, or rejects with it. */
declare class FrysError extends Error {
  readonly name: "FrysError";
  readonly reason:
    | "permission"
    | "invalid"
    | "missing"
    | "limit"
    | "unavailable"
    | "failed"
    | "timeout"
    | "cycle";
}

interface FrysResponse {
  readonly status: number;
  /** Names in lower case; set-cookie is a list. */
  readonly headers: Record<string, string | string[]>;
  readonly body: Uint8Array;
  /** Whether the status is from 200 to 299; another one throws nothing. */
  readonly ok: boolean;
  text(): string;
  json(): any;
}

interface FrysRequest {
  /** GET by default. */
  method?: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array | ArrayBuffer | null;
  /** Milliseconds; at most what is left of the call's own time. */
  timeoutMs?: number | null;
}

interface FrysLog {
  (level: FrysLevel, message: unknown): void;
  trace(message: unknown): void;
  debug(message: unknown): void;
  info(message: unknown): void;
  warning(message: unknown): void;
  error(message: unknown): void;
}

interface FrysStore {
  /** The value of a key, or null. */
  get(key: string): FrysValue;
  set(key: string, value: FrysValue): void;
  /** Whether the key was there. */
  delete(key: string): boolean;
  /** The keys that begin with a prefix, in order. */
  keys(prefix?: string): string[];
}

declare const frys: {
  /** Write a line into the host's log. */
  readonly log: FrysLog;
  /** A setting of this plugin, or null; without a key, all of them. */
  config(): { [key: string]: FrysValue };
  config(key: string): FrysValue;
  /** The trace that the call belongs to, as the header of that name for a request of the plugin's own, or null. */
  traceparent(): string | null;
  /** The plugin's own keys and values, which outlive its process. */
  readonly kv: FrysStore;
  /** Ask a server; the host sends the request, to servers that the policy grants. */
  http(url: string | URL, options?: FrysRequest): Promise<FrysResponse>;
  /** Call a function of another plugin. */
  call(plugin: string, name: string, ...args: FrysValue[]): Promise<FrysValue>;
  /** Publish an event; the number of plugins and streams that will get it. */
  emit(type: string, data?: FrysValue): number;
  /** Call a function that the host program offers. */
  host(name: string, ...args: FrysValue[]): FrysValue;
};
