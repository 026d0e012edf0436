"""JavaScript plugins: scripts, ES modules, CommonJS files and npm packages in the quickjs-ng engine.

A function is a top-level function of a script, an export of a module, or what a CommonJS file puts into
``module.exports``; what it returns may be a promise, and timers run while it is pending. The engine is
taken as escapable: the jail around this process is the boundary, and the limits here only make failures
kind, so that a plugin which runs out of memory or time gets an exception instead of a death.
"""

import _thread
import time
from typing import Any

from . import interrupt
from ._quickjs_abi import ffi
from .artifact import Artifact, Value
from .failures import BadArtifact, Failure, NoSuchFunction, PluginRaised
from .javascript_api import (
    EVAL_MODULE,
    EVAL_SCRIPT,
    EXCEPTION,
    OBJECT,
    UNDEFINED,
    JSValue,
    lib,
    text_of,
)
from .javascript_engine import Engine
from .javascript_errors import describe, drop_exception, out_of_time, pending
from .javascript_exports import looks_like_commonjs
from .javascript_modules import Modules, on_load_module, on_normalize
from .javascript_resolve import COMMONJS, CONDITIONS, ESM, JSON, UNKNOWN
from .javascript_source import bad_source, further, parameters, top_level_constants
from .javascript_values import Converter

_PENDING, _REJECTED, _NO_PROMISE = 0, 2, -1  # JSPromiseStateEnum
_MAX_ARGUMENTS = 64
_LONGEST_SLEEP = 3600.0

_ready: Engine | None = None

# Waiting for a lock that nobody releases is a sleep that needs no system call but futex(2), which every
# plugin process may use anyway.
_sleep_lock = _thread.allocate_lock()
_sleep_lock.acquire()


def _wake() -> None:
    """End a sleep; one that is not under way ends at once then, and looks at its timer again."""
    if _sleep_lock.locked():
        _sleep_lock.release()


def prepare() -> None:
    """Warm the engine up and leave one fresh context, which the children share copy-on-write.

    Raises:
        RuntimeError: The engine does not do what the binding expects of it.
    """
    global _ready  # noqa: PLW0603  # what the fork hands over
    source = (
        b"import { twice } from './twice.js';\n"
        b"export async function warm(data, more) {\n"
        b"  try { null.x } catch (error) { more.error = String(error) }\n"
        b"  more.local = new Date().getTimezoneOffset() !== undefined && /a+b/.test('aab');\n"
        b"  await new Promise((resolve) => setTimeout(resolve));\n"
        b"  return [await twice(data), more, JSON.parse('[1.5]'), new TextDecoder().decode(data)] }\n"
        b"export function fail() { throw new Error('warm') }\n"
    )
    files = {
        "warm.mjs": memoryview(source),
        "twice.js": memoryview(b"const same = require('./same.js'); exports.twice = (data) => same(data)"),
        "same.js": memoryview(b"module.exports = (data) => data"),
    }
    plugin = load(Artifact("warm", "warm.mjs", files))
    plugin.functions()
    for _ in range(3):
        result = plugin("warm", [b"ab", {"text": "\u20ac", "half": 0.5, "big": 1 << 60, "none": None}])
        more = {"text": "\u20ac", "half": 0.5, "big": 1 << 60, "none": None, "local": True}
        more["error"] = "TypeError: cannot read property 'x' of null"
        if result != [b"ab", more, [1.5], "ab"]:
            raise RuntimeError(f"the JavaScript engine answered {result!r}: this build of it is not usable")
        try:
            plugin("fail", [])
        except PluginRaised:
            pass
    plugin.close()
    interrupt.listen(_wake)
    _ready = Engine()


def load(artifact: Artifact) -> "JavaScriptPlugin":
    """Compile and run a plugin's entry file.

    Raises:
        BadArtifact: It is not JavaScript, or it imports what it cannot have.
        PluginRaised: Its top level threw.
        LimitReached: It ran out of memory.
    """
    global _ready
    conditions = _conditions(artifact.options)
    # Used up: no two plugins share a context.
    engine, _ready = _ready or Engine(), None
    return JavaScriptPlugin(engine, artifact, conditions)


def _conditions(options: dict[str, Value]) -> list[str]:
    """The one option: which builds of packages fit."""
    unknown = min(options.keys() - {"conditions"}, default=None)
    if unknown is not None:
        raise BadArtifact(
            f'"javascript" in plugin.json has the unknown key {unknown!r}; it may have "conditions"'
        )
    conditions = options.get("conditions", [*CONDITIONS])
    if isinstance(conditions, list) and all(isinstance(condition, str) for condition in conditions):
        return [str(condition) for condition in conditions]
    raise BadArtifact('"javascript.conditions" in plugin.json must be a list of words, like ["browser"]')


class JavaScriptPlugin:
    """A loaded plugin.

    Attributes:
        deadline: ``time.monotonic()`` seconds at which the engine interrupts the call; 0.0 for never.
        modules: Its files.
        values: The converter between its values and Python's.
    """

    def __init__(self, engine: Engine, artifact: Artifact, conditions: list[str]) -> None:
        self.deadline = 0.0
        self.values = Converter(engine, self._failure)
        self.modules = Modules(engine, artifact.files, self.values, conditions)
        self._engine = engine
        self._context = engine.context
        self._host = artifact.host
        self._interrupted = False
        self._functions: dict[str, JSValue] = {}
        self._argv = ffi.new("JSValue[]", _MAX_ARGUMENTS)
        self._job_context = ffi.new("JSContext **")
        # The callbacks find their plugin by this handle, which must live as long as the runtime.
        self._handle = ffi.new_handle(self)
        engine.start(artifact.memory_limit, artifact.stack_limit)
        lib.JS_SetContextOpaque(self._context, self._handle)
        lib.JS_SetInterruptHandler(engine.runtime, _on_interrupt, self._handle)
        lib.JS_SetModuleLoaderFunc(engine.runtime, on_normalize, on_load_module, ffi.NULL)
        self._source = self.modules.read(artifact.entry)
        # What holds the functions: the namespace of a module, module.exports, or None: the global object.
        self._receiver: JSValue = (0, UNDEFINED)
        self._holder = self._run(artifact.entry)

    # loading

    def _run(self, entry: str) -> JSValue | None:
        if not self._source.strip():
            raise BadArtifact(f"{entry} is empty; a JavaScript plugin defines at least one function")
        kind = self.modules.declared_kind(entry)
        if kind == JSON:
            raise BadArtifact(f"{entry} is data; a JavaScript plugin begins with a file of code")
        if kind == UNKNOWN and looks_like_commonjs(self._source):
            # What does not parse as CommonJS may still be a module with such code in it.
            kind = COMMONJS if self.modules.kind(entry) == COMMONJS else UNKNOWN
        elif kind == COMMONJS and not self.modules.compile_commonjs(entry):
            raise bad_source(entry, self._failure())
        if kind == COMMONJS:
            return self._run_commonjs(entry)
        return self._run_script_or_module(entry, is_module=kind == ESM)

    def _run_commonjs(self, entry: str) -> JSValue:
        exports = self.modules.run(entry)
        if exports.tag == EXCEPTION:
            raise self._failure()
        self._run_jobs()
        self._receiver = exports
        return exports

    def _run_script_or_module(self, entry: str, *, is_module: bool) -> JSValue | None:
        """Run the entry file; the answer is the module's namespace, or None for a script."""
        compiled, is_module = self._compile_entry(entry, is_module=is_module)
        module = self.modules.adopt(entry, compiled) if is_module else ffi.NULL
        # SAFETY: the engine takes over `compiled`.
        result = lib.JS_EvalFunction(self._context, compiled)
        if result.tag == EXCEPTION:
            failure = self._failure()
            # A module that compiled but does not start could not be linked: an import names no export.
            raise bad_source(entry, failure) if is_module else failure
        settled = self._await(result, f"the top level of {entry}")
        lib.JS_FreeValue(self._context, settled)
        return lib.JS_GetModuleNamespace(self._context, module) if is_module else None

    def _compile_entry(self, entry: str, *, is_module: bool) -> tuple[JSValue, bool]:
        """Compile as a script and, where that fails, as a module.

        When both fail, the parse that came further through the file says what the author meant.
        """
        first: Failure | None = None
        if not is_module:
            compiled = self.modules.compile(entry, self._source, EVAL_SCRIPT)
            if compiled.tag != EXCEPTION:
                return compiled, False
            first = self._failure()
        compiled = self.modules.compile(entry, self._source, EVAL_MODULE)
        if compiled.tag != EXCEPTION:
            return compiled, True
        second = self._failure()
        if self.modules.refused:
            raise BadArtifact(self.modules.refused)
        raise bad_source(entry, second if first is None else further(first, second, entry))

    # calling

    def __call__(self, function: str, args: list[Value]) -> Value:
        """Call a function and, if it returns a promise, run until that is settled.

        Raises:
            NoSuchFunction: The plugin has no function of this name.
            PluginRaised: It threw, or its promise was rejected or never settles.
            LimitReached: It ran out of time or memory.
            BadArguments: An argument cannot travel.
            BadValue: The result cannot travel.
        """
        self._interrupted = False
        interrupt.begin()
        target = self._functions.get(function) or self._find(function)
        count = len(args)
        argv = self._argv if count <= _MAX_ARGUMENTS else ffi.new("JSValue[]", count)
        made: list[JSValue] = []
        try:
            for index, arg in enumerate(args):
                value = self.values.to_engine(arg)
                argv[index] = value
                if type(value) is not tuple:
                    made.append(value)
            # SAFETY: argv holds `count` values, owned by `made` until the call is over.
            result = lib.JS_Call(self._context, target, self._receiver, count, argv)
        finally:
            for value in made:
                lib.JS_FreeValue(self._context, value)
        try:
            if result.tag == EXCEPTION:
                raise self._failure()
            settled = self._await(result, f"{function}()")
        except Failure:
            if interrupt.is_wanted():
                self._drop_jobs()
            raise
        try:
            return self.values.from_engine(settled)
        finally:
            lib.JS_FreeValue(self._context, settled)

    def ask(self, service: str, args: list[Value]) -> Value:
        """Ask the host for a service, and wait for its answer.

        Raises:
            Failure: The host refused.
        """
        return self._host.ask(service, *args)

    def _await(self, result: JSValue, name: str) -> JSValue:
        """Run what is queued; a promise is exchanged for what it was settled with."""
        try:
            self._run_jobs()
        except BaseException:
            lib.JS_FreeValue(self._context, result)
            raise
        if result.tag != OBJECT or lib.JS_PromiseState(self._context, result) == _NO_PROMISE:
            return result
        return self._settle(result, name)

    def _settle(self, promise: JSValue, name: str) -> JSValue:
        """Run until a promise is settled; the engine's reference to it is given up."""
        try:
            while (state := lib.JS_PromiseState(self._context, promise)) == _PENDING:
                self._run_timer(name)
                self._run_jobs()
            settled = lib.JS_PromiseResult(self._context, promise)
        finally:
            lib.JS_FreeValue(self._context, promise)
        if state == _REJECTED:
            try:
                raise describe(self._context, settled, self._was_interrupted)
            finally:
                lib.JS_FreeValue(self._context, settled)
        return settled

    def _run_jobs(self) -> None:
        runtime = self._engine.runtime
        while lib.JS_IsJobPending(runtime):
            if lib.JS_ExecutePendingJob(runtime, self._job_context) < 0:
                raise self._failure()
            if self._late():
                raise out_of_time()
        self.modules.settle()

    def _drop_jobs(self) -> None:
        """What is queued of a call that was given up ends with it; in the next one it would go on, or fail.

        The engine is interrupted in each job that lasts; who queues jobs without end is killed by the host.
        """
        while lib.JS_IsJobPending(self._engine.runtime):
            if lib.JS_ExecutePendingJob(self._engine.runtime, self._job_context) < 0:
                drop_exception(self._context)

    def _run_timer(self, name: str) -> None:
        """Run the next timer if it is due, else sleep until it is."""
        if lib.JS_HasException(self._context):
            raise self._failure()  # there was no memory to reject a promise
        answer = lib.JS_Call(self._context, self._engine.fire, (0, UNDEFINED), 0, ffi.NULL)
        if answer.tag == EXCEPTION:
            raise self._failure()
        wait: Any = self.values.from_engine(answer)
        if wait < 0:
            raise PluginRaised(
                f"{name} waits for a promise that nothing can settle any more: "
                "no work is left to run, and no timer"
            )
        if wait:
            seconds = min(wait / 1000, _LONGEST_SLEEP)
            if self.deadline:
                seconds = min(seconds, max(self.deadline - time.monotonic(), 0))
            _sleep_lock.acquire(timeout=seconds)
        if self._late():
            raise out_of_time()

    def _late(self) -> bool:
        """Say whether the engine has to stop; it asks every few thousand steps."""
        if interrupt.is_wanted() or (self.deadline and time.monotonic() > self.deadline):
            self._interrupted = True
        return self._interrupted

    def _was_interrupted(self) -> bool:
        return self._interrupted

    def _failure(self) -> Failure:
        """Take the engine's pending exception."""
        return pending(self._context, self._was_interrupted)

    # functions

    def _find(self, function: str) -> JSValue:
        """Look a function up and keep it: a name is bound at its first call."""
        found = self._look_up(function)
        if found is None:
            raise NoSuchFunction(function, list(self.functions()))
        self._functions[function] = found
        return found

    def _look_up(self, name: str) -> JSValue | None:
        """Find a function of the plugin, never one of the engine's own; the caller owns it."""
        if self._holder is not None:
            if name == "default" and lib.JS_IsFunction(self._context, self._holder):
                return lib.JS_DupValue(self._context, self._holder)  # module.exports itself
            # A namespace has nothing but exports; module.exports inherits from Object.
            return self._property(self._holder, name) if name in self._names(self._holder) else None
        own = self._property(self._engine.global_object, name)
        if own is not None and name in self._names(self._engine.global_object):
            return own
        # A top-level const or let is no property; only code can read it, and only if it is a name.
        found = self._evaluate(name) if name.replace("$", "_").isidentifier() else None
        if own is not None:
            builtin = found is not None and lib.JS_IsStrictEqual(self._context, found, own)
            lib.JS_FreeValue(self._context, own)
            if builtin:
                lib.JS_FreeValue(self._context, found)
                return None
        return found

    def _names(self, value: JSValue) -> list[str]:
        try:
            return self.values.names(value)
        except Failure:
            return []

    def _property(self, holder: JSValue, name: str) -> JSValue | None:
        key = name.encode("utf-8", "replace")
        atom = lib.JS_NewAtomLen(self._context, key, len(key))
        value = lib.JS_GetProperty(self._context, holder, atom)
        lib.JS_FreeAtom(self._context, atom)
        return self._only_function(value)

    def _evaluate(self, name: str) -> JSValue | None:
        code = name.encode()
        return self._only_function(lib.JS_Eval(self._context, code, len(code), b"<frys>", EVAL_SCRIPT))

    def _only_function(self, value: JSValue) -> JSValue | None:
        if lib.JS_IsFunction(self._context, value):
            return value
        if value.tag == EXCEPTION:
            value = lib.JS_GetException(self._context)
        lib.JS_FreeValue(self._context, value)
        return None

    def functions(self) -> dict[str, str]:
        """Name the plugin's functions with their parameters as they stand in the source."""
        holder = self._engine.global_object if self._holder is None else self._holder
        found = {name: self._signature(name, self._property(holder, name)) for name in self._names(holder)}
        if lib.JS_IsFunction(self._context, holder):
            found["default"] = self._signature("default", self._look_up("default"))
        if self._holder is None:
            for name in top_level_constants(self._source.decode()):
                found[name] = self._signature(name, self._look_up(name))
        return {name: signature for name, signature in found.items() if signature}

    def _signature(self, name: str, function: JSValue | None) -> str:
        """Describe a function, which is freed; empty for a class, which cannot be called."""
        if function is None:
            return ""
        source = text_of(self._context, function) or ""
        drop_exception(self._context)
        prefix = "async " if lib.JS_IsAsyncFunction(function) else ""
        lib.JS_FreeValue(self._context, function)
        return "" if source.startswith("class") else f"{prefix}{name}({parameters(source)})"

    def close(self) -> None:
        """Free the engine. A plugin process just ends instead; warming up and the tests use this."""
        if self._holder is not None:
            lib.JS_FreeValue(self._context, self._holder)
        for value in self._functions.values():
            lib.JS_FreeValue(self._context, value)
        self._functions.clear()
        self.modules.close()
        self._engine.close()


@ffi.callback("JSInterruptHandler", error=1)
def _on_interrupt(_runtime: Any, handle: Any) -> int:
    # SAFETY: the handle belongs to the plugin whose runtime asks; the plugin keeps it alive.
    return ffi.from_handle(handle)._late()  # type: ignore[no-any-return]
