"""WASM plugins in this very process: what they compute, and how every mistake is told.

What forks, or depends on how the launcher is started, runs in a `python -I -S` of its own.
"""

import contextlib
import json
import math
import os
import random
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
import wasmtime
from frys_runtime.launchers import wasm, wasm_library
from frys_runtime.launchers.artifact import Artifact
from frys_runtime.launchers.failures import (
    BadArguments,
    BadArtifact,
    BadValue,
    LimitReached,
    NoSuchFunction,
    PluginRaised,
)
from hypothesis import given, settings, strategies as st
from wasm_build import compile_c, compile_fixture, compile_text

ROOT = Path(__file__).parents[2]
MEMORY = 16 << 20
PAGE = 1 << 16


def load(code: bytes, memory_limit: int = MEMORY) -> wasm.Plugin:
    """Load a module as the child does."""
    return wasm.load(Artifact("tester", "a.wasm", {"a.wasm": memoryview(code)}, memory_limit=memory_limit))


def load_text(text: str) -> wasm.Plugin:
    return load(compile_text(text))


def refusal(code: bytes) -> str:
    """Load what must not load, and return why."""
    with pytest.raises(BadArtifact) as caught:
        load(code)
    return caught.value.message


@pytest.fixture(scope="module")
def prepared():
    wasm.prepare()


@pytest.fixture
def numbers():
    return load(compile_fixture("numbers"))


@pytest.fixture
def text():
    return load(compile_fixture("text"))


@pytest.fixture
def program():
    return load(compile_fixture("program"))


@pytest.fixture
def reactor():
    return load(compile_fixture("reactor"))


# ---- the Frys bytes ABI


@pytest.mark.parametrize("size", [0, 1, 64, PAGE, 1 << 20])
def test_bytes_come_back_as_they_went(text, size):
    """Every size from nothing to a mebibyte, zero bytes among them."""
    data = random.Random(size).randbytes(size)

    assert text("echo", [data]) == data


def test_result_in_a_block_of_its_own(text):
    """The usual plugin: the result is allocated by the module."""
    assert text("upper", [b"Frys 2026 \xff"]) == b"FRYS 2026 \xff"


def test_text_is_an_argument_too(text):
    """A str goes in as UTF-8; what comes out is bytes."""
    assert text("upper", ["größe"]) == "GRößE".encode()


def test_every_block_is_freed_once(text):
    """Argument and result go back to frys_free, but a result within the argument is not freed twice."""
    for function in ("upper", "echo", "rest", "nothing"):
        for _ in range(100):
            text(function, [b"some text"])

        assert text("live", []) == 0


def test_numeric_functions_stand_beside_bytes_functions(text):
    """Only the type of the bytes ABI makes a bytes function; the allocator is not listed."""
    signatures = text.functions()

    assert signatures["upper"] == "(bytes) -> bytes"
    assert signatures["live"] == "() -> i32"
    assert not {"frys_alloc", "frys_free", "memory"} & signatures.keys()


@pytest.mark.parametrize("function", ["behind_the_end", "at_the_end"])
def test_result_outside_the_memory_is_refused(text, function):
    """A pointer is checked against the memory as it is now, and the plugin goes on afterwards."""
    with pytest.raises(BadValue, match="outside its memory of 131072 bytes"):
        text(function, [b"x"])

    assert text("upper", [b"x"]) == b"X"


def test_allocator_that_points_outside_is_refused():
    """The argument is written only where the memory is."""
    plugin = load_text(
        '(module (memory (export "memory") 1)'
        ' (func (export "frys_alloc") (param i32) (result i32) (i32.const 65530))'
        ' (func (export "echo") (param i32 i32) (result i64) (i64.const 0)))'
    )

    with pytest.raises(BadValue, match="10 bytes at address 65530"):
        plugin("echo", [b"0123456789"])


def test_an_empty_argument_and_an_empty_result_may_be_anywhere():
    """An allocator makes up an address for nothing, as those of Rust and Zig do; nobody reads there."""
    plugin = load_text(
        '(module (memory (export "memory") 1)'
        ' (func (export "frys_alloc") (param i32) (result i32) (i32.const -1))'
        ' (func (export "nothing") (param i32 i32) (result i64) (i64.const 0xffffffff00000000)))'
    )

    assert plugin("nothing", [b""]) == b""


def test_argument_larger_than_the_memory_limit(text):
    """frys_alloc answers 0, and that is the limit."""
    with pytest.raises(LimitReached, match="no room for 20000000 bytes") as caught:
        text("echo", [b"x" * 20_000_000])

    assert caught.value.resource == "memory"
    assert text("echo", [b"x"]) == b"x"


@pytest.mark.parametrize("args", [[b"a", b"b"], [1], [None], [[b"a"]]])
def test_bytes_function_takes_one_bytes(text, args):
    """Or none, which is no bytes; anything else is the caller's mistake."""
    assert text("echo", []) == b""
    with pytest.raises(BadArguments, match="echo takes"):
        text("echo", args)


@pytest.mark.needs_pip
def test_module_of_a_c_compiler(tmp_path, tmp_path_factory):
    """What clang makes of C, without any library."""
    module = compile_c("words", tmp_path, tmp_path_factory)
    plugin = load(module.read_bytes())

    for _ in range(3):
        assert plugin("histogram", [b"the quick brown fox jumps over"]) == b"0 0 2 1 3 0 0 0 0\n"
    assert plugin("histogram", [b"a " * 500_000]) == b"500000 0 0 0 0 0 0 0 0\n"


# ---- plain numbers


@pytest.mark.parametrize(
    ("function", "given_", "returned"),
    [
        ("same_i32", -(2**31), -(2**31)),
        ("same_i32", 2**32 - 1, -1),
        ("same_i32", True, 1),
        ("same_i64", -(2**63), -(2**63)),
        ("same_i64", 2**64 - 1, -1),
        ("same_f32", 1, 1.0),
        ("same_f32", 0.1, 0.10000000149011612),
        ("same_f64", 2**53, float(2**53)),
        ("same_f64", -math.inf, -math.inf),
    ],
)
def test_number_goes_through(numbers, function, given_, returned):
    """Integers of both signs go in by their bits and come out signed; floats take integers."""
    result = numbers(function, [given_])

    assert result == returned
    assert type(result) is type(returned)


def test_not_a_number_goes_through(numbers):
    """NaN is a float like any other."""
    assert math.isnan(numbers("same_f64", [math.nan]))


def test_several_results_are_a_list_and_none_is_none(numbers):
    """Every type keeps its place."""
    assert numbers("mixed", [1, -2, 0.5, 0.25]) == [0.25, 0.5, -2, 1]
    assert numbers("nothing", []) is None


@pytest.mark.parametrize(
    ("function", "args", "reason"),
    [
        ("add", [1], "add takes 2 arguments"),
        ("add", [1, 2, 3], "not 3"),
        ("add", [1, 2.0], "an i32 takes an int, not float"),
        ("add", [1, "2"], "not str"),
        ("add", [None, 2], "not NoneType"),
        ("add", [2**32, 0], "4294967296 does not fit into an i32"),
        ("add", [-(2**31) - 1, 0], "does not fit"),
        ("same_i64", [2**64], "does not fit"),
        ("same_f32", ["x"], "an f32 takes a float or an int"),
        ("same_f32", [1e300], "too large"),
        ("vector", [0], "v128"),
        ("reference", [0], "externref"),
        ("record", [], "reference"),
    ],
)
def test_wrong_numbers_are_the_callers_mistake(numbers, function, args, reason):
    """Number, type and range of the arguments are checked before anything runs."""
    with pytest.raises(BadArguments, match=reason):
        numbers(function, args)


def test_signatures_are_listed(numbers):
    """`frys inspect` shows what the module says, types without a value included."""
    signatures = numbers.functions()

    assert signatures["mixed"] == "(i32, i64, f32, f64) -> (f64, f32, i64, i32)"
    assert signatures["nothing"] == "() -> ()"
    assert signatures["vector"] == "(v128) -> ()"


@pytest.mark.parametrize("name", ["missing", "memory", "", "add\0", "ädd"])
def test_unknown_function_is_named(numbers, name):
    """The error lists what there is."""
    with pytest.raises(NoSuchFunction, match="the plugin offers: add, "):
        numbers(name, [])


# ---- WASI


@pytest.mark.parametrize("name", ["_start", "main", "run"])
def test_command_copies_stdin_to_stdout(program, name):
    """The result of a program is what it writes, under each of its names, every time from the beginning."""
    data = random.Random(name).randbytes(10_000)

    assert program(name, [data]) == data
    assert program(name, [b"again"]) == b"again"
    assert program(name, []) == b""


def test_command_gets_its_arguments(program):
    """The first of argv is the plugin's id; a first bytes argument is stdin."""
    assert program("run", ["list", "", "ä b"]) == "tester\nlist\n\nä b\n".encode()
    assert program("run", [b"stdin", "list"]) == b"tester\nlist\n"


def test_command_may_exit_with_0(program):
    """proc_exit(0) is a result like the return of _start."""
    assert program("run", [b"kept", "stay"]) == b"kept"


def test_exit_code_is_the_programs_exception(program, capfd):
    """Another exit code fails the call; stderr is in the detail and in the log."""
    with pytest.raises(PluginRaised, match=r"^exit code 7$") as caught:
        program("run", [b"no such luck", "fail"])

    assert caught.value.kind == "exception"
    assert caught.value.detail == "no such luck"
    assert capfd.readouterr().err == "no such luck"
    assert program("run", [b"fresh"]) == b"fresh"


def test_trap_shows_stderr_and_backtrace(program):
    """What a program said before it died stands before where it died."""
    with pytest.raises(PluginRaised, match="unreachable") as caught:
        program("run", [b"last words", "trap"])

    said, _, backtrace = caught.value.detail.partition("\n")
    assert said == "last words"
    assert "wasm backtrace" in backtrace


def test_endless_output_is_stopped(program):
    """A program cannot fill the memory of its process with output."""
    with pytest.raises(LimitReached) as caught:
        program("run", ["flood"])

    assert caught.value.resource == "output"
    assert MEMORY // 4 < caught.value.actual < MEMORY


@pytest.mark.parametrize("args", [[1], [b"", b""], ["a", 1], [b"", "a\0b"], [None]])
def test_wrong_arguments_of_a_command(program, args):
    """First bytes, then str without NUL; anything else is the caller's mistake."""
    with pytest.raises(BadArguments):
        program("run", args)

    assert program("run", [b"fine"]) == b"fine"


def test_reactor_is_initialised_once(reactor):
    """_initialize runs before the first call and is not offered as a function."""
    assert [reactor("initialised", []) for _ in range(3)] == [1, 1, 1]
    assert "_initialize" not in reactor.functions()


def test_reactor_writes_to_the_log(reactor, capfd):
    """What a module that is no command writes to stdout and stderr is the plugin's log."""
    assert reactor("say", [1]) == 0
    assert reactor("say", [2]) == 0

    assert capfd.readouterr() == ("from the reactor\n", "from the reactor\n")


def test_streams_of_a_reactor(reactor):
    """Nothing is on stdin, a stream has no position, and a closed stream is closed."""
    assert reactor("read_stdin", []) == 0
    assert reactor("seek", [0]) == 70  # ESPIPE
    assert [reactor("rights", [fd]) for fd in range(4)] == [2, 64, 64, -1]
    assert reactor("close", [1]) == 0
    assert reactor("close", [1]) == 8  # EBADF
    assert reactor("say", [1]) == 8


def test_no_file_is_within_reach(reactor):
    """There is no preopened folder, so nothing can be opened, and the environment is empty."""
    assert reactor("preopen", []) == 8
    assert [reactor("open", [directory]) for directory in range(5)] == [8] * 5
    assert reactor("environment", []) == 0


@pytest.mark.parametrize(("address", "length"), [(PAGE - 4, 8), (0xFFFFFFFF, 1), (0, 0xFFFFFFFF)])
def test_pointers_of_a_program_are_checked(reactor, address, length):
    """A buffer outside the memory is EFAULT, whatever the call was going to do with it."""
    fault = 21

    assert reactor("write_from", [address, length]) == fault
    assert reactor("random", [address, length]) == fault
    assert reactor("write_list", [address, 100]) == fault


def test_list_of_buffers_is_bounded(reactor):
    """A gigantic number of buffers is EINVAL before it is work."""
    assert reactor("write_list", [0, 0xFFFFFFFF]) == 28


def test_clocks(reactor):
    """Four clocks run as those of Python do; a fifth does not exist."""
    before = time.time_ns()

    assert before <= reactor("clock", [0]) <= time.time_ns()
    assert reactor("clock", [1]) <= time.monotonic_ns()
    assert 0 < reactor("clock", [2]) <= time.process_time_ns()
    assert reactor("clock", [4]) == -1


def test_randomness(reactor):
    """Random bytes land where the program asked."""
    words = set()
    for _ in range(8):
        assert reactor("random", [512, 8]) == 0
        words.add(reactor("load", [512]))

    assert len(words) == 8


def test_sleep_waits(reactor):
    """A relative timeout passes; one event comes back."""
    before = time.monotonic()

    assert reactor("sleep", [20_000_000]) == 1
    assert time.monotonic() - before >= 0.02


def test_poll_does_not_wait_for_a_ready_stream(reactor):
    """Reading stdin never blocks, so an alarm in an hour does not go off."""
    assert reactor("poll_stdin", []) == 22


def test_exit_of_a_reactor(reactor):
    """proc_exit outside of a command ends the instance, not the process."""
    with pytest.raises(PluginRaised, match="exit code 3"):
        reactor("leave", [3])

    assert reactor("initialised", []) == 1


# ---- what goes wrong inside


@pytest.mark.parametrize(
    ("function", "args", "reason"),
    [
        ("divide", [1, 0], "wasm trap: integer divide by zero"),
        ("divide", [-(2**31), -1], "wasm trap: integer overflow"),
        ("outside", [], "wasm trap: out of bounds memory access"),
        ("throw", [], "thrown Wasm exception"),
    ],
)
def test_trap_is_the_plugins_exception(numbers, function, args, reason):
    """A trap names itself and shows where it was; the next call works."""
    with pytest.raises(PluginRaised, match=reason) as caught:
        numbers(function, args)

    assert "wasm backtrace" in caught.value.detail
    assert "\n" not in caught.value.message
    assert numbers("add", [1, 2]) == 3


def test_endless_recursion_reaches_the_stack_limit(numbers):
    """The stack of wasm ends before the stack of the process does, time after time."""
    for _ in range(3):
        with pytest.raises(LimitReached, match="call stack") as caught:
            numbers("recurse", [])

        assert caught.value.resource == "stack"


def test_failed_call_ends_the_instance(numbers):
    """Nothing of a state that a trap left half changed is seen again; a caller's mistake changes nothing."""
    assert [numbers("count", []) for _ in range(2)] == [1, 2]
    with pytest.raises(BadArguments):
        numbers("add", [])
    with pytest.raises(NoSuchFunction):
        numbers("missing", [])
    assert numbers("count", []) == 3

    with pytest.raises(PluginRaised):
        numbers("divide", [1, 0])
    assert numbers("count", []) == 1


def test_growing_stops_at_the_memory_limit():
    """memory.grow answers -1 beyond the limit, and what is there stays usable."""
    plugin = load(compile_fixture("numbers"), memory_limit=10 * PAGE)

    assert plugin("grow", [10]) == -1
    assert plugin("grow", [9]) == 1
    assert plugin("grow", [1]) == -1
    assert plugin("add", [1, 2]) == 3


def test_giving_up_with_full_memory_is_the_memory_limit(numbers):
    """A plugin that aborts because it can allocate no more has reached the limit."""
    with pytest.raises(LimitReached, match="memory full") as caught:
        numbers("hoard", [])

    assert caught.value.resource == "memory"
    assert caught.value.actual == MEMORY


def test_garbage_collected_objects_count_as_memory():
    """Objects of the engine's own heap end at the same limit as bytes do."""
    plugin = load_text(
        """(module
          (type $link (struct (field (ref null $link)) (field i64)))
          (global $head (mut (ref null $link)) (ref.null $link))
          (func (export "hoard")
            (loop $again (global.set $head (struct.new $link (global.get $head) (i64.const 1))) (br $again)))
          (func (export "five") (result i32) (i32.const 5)))"""
    )

    with pytest.raises(LimitReached, match="GC heap out of memory") as caught:
        plugin("hoard", [])

    assert caught.value.resource == "memory"
    assert plugin("five", []) == 5


# ---- what is no plugin


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (b"", "the file is empty"),
        (b"\0as", "end-of-file"),
        (b"\0asm", "end-of-file"),
        (b"\0asm\1\0\0", "end-of-file"),
        (b"\0asm\1\0\0\0", "exports no function"),
        (b"\0asm\2\0\0\0", "unknown version"),
        (b"(module)", "text"),
        (b"\x7fELF\2\1\1\0", "begins with"),
        (b"export function f() {}", "begins with"),
        (b"\0asm\1\0\0\0" + bytes(range(100)), "no valid WebAssembly module"),
    ],
)
def test_foreign_bytes_are_refused(code, reason):
    """Every beginning that is not a module's is told apart."""
    assert reason in refusal(code)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(code):
    """No bytes at all bring the engine down."""
    refusal(code)


@given(st.data())
@settings(max_examples=200)
def test_damaged_module_is_refused_or_runs(data):
    """A cut or a changed byte is either refused with a reason or gives another module."""
    code = bytearray(compile_fixture("text"))
    position = data.draw(st.integers(8, len(code) - 1))
    if data.draw(st.booleans()):
        del code[position:]
    else:
        code[position] = data.draw(st.integers(0, 255))

    with contextlib.suppress(BadArtifact, LimitReached):
        load(bytes(code)).close()


def test_missing_imports_are_all_named():
    """The author sees the whole list at once, with the types that the module wants."""
    reason = refusal(
        compile_text(
            '(module (import "env" "print" (func (param i32 v128))) (import "env" "memory" (memory 1))'
            ' (import "env" "table" (table 1 funcref)) (import "host" "pi" (global f64))'
            ' (import "wasi_snapshot_preview1" "fd_read" (func (param i32)))'
            ' (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))'
            ' (func (export "f")))'
        )
    )

    assert reason == (
        "the module imports what Frys does not offer: env.print ((i32, v128) -> ()), env.memory (memory), "
        "env.table (table), host.pi (global), wasi_snapshot_preview1.fd_read ((i32) -> ())"
    )


def test_every_function_of_preview_1_is_offered():
    """All 46, with the types that wasmtime's own WASI gives them."""
    store = wasmtime.Store()
    reference = wasmtime.Linker(store.engine)
    reference.define_wasi()
    types = wasm._runtime()[0].host_types.items()
    offered = {name: kind for (module, name), kind in types if module == "wasi_snapshot_preview1"}

    assert len(offered) == 46
    for name, kinds in offered.items():
        function = reference.get(store, "wasi_snapshot_preview1", name).type(store)
        assert kinds == (tuple(map(str, function.params)), tuple(map(str, function.results))), name


@pytest.mark.parametrize(
    ("text_", "kind"),
    [
        ('(import "gojs" "runtime.wasmExit" (func (param i32)))', "Go"),
        ('(import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32)))', "preview 0"),
    ],
)
def test_abi_of_a_later_version_is_recognised(text_, kind):
    """A module that Frys cannot run yet is refused by its name, not by its first unknown import."""
    reason = refusal(compile_text(f'(module {text_} (func (export "f")))'))

    assert kind in reason
    assert "cannot run yet" in reason


START_THAT_EXITS = """
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func $s (call $exit (i32.const 1)))
  (start $s)
"""


@pytest.mark.parametrize(
    ("text_", "reason"),
    [
        (START_THAT_EXITS, "start function trapped: exit code 1"),
        ("(func $s unreachable) (start $s)", "start function trapped: wasm trap: wasm `unreachable`"),
        ("(func $s call $s) (start $s)", "start function trapped: the plugin's call stack is full"),
        ('(func (export "_initialize") unreachable)', "start function trapped"),
        ('(memory (export "memory") 1) (data (i32.const 65535) "ab")', "out of bounds memory access"),
        ("(memory 1 1 shared)", "shared memory"),
    ],
)
def test_module_that_cannot_start_is_refused(text_, reason):
    """A start function that fails is the file's fault, not a call's."""
    assert reason in refusal(compile_text(f'(module {text_} (func (export "f")))'))


@pytest.mark.parametrize("text_", ["(memory 257)", "(table 3000000 funcref)"])
def test_module_that_asks_for_too_much_is_refused(text_):
    """What a module declares counts against the memory limit before it runs."""
    with pytest.raises(LimitReached, match="asks for too much") as caught:
        load_text(f'(module {text_} (func (export "f")))')

    assert caught.value.resource == "memory"


def test_function_that_needs_a_memory_and_has_none():
    """A WASI call without an exported memory fails as the plugin's mistake."""
    plugin = load_text(
        '(module (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))'
        ' (func (export "f") (result i32) (call $yield)))'
    )

    with pytest.raises(PluginRaised, match="exports none"):
        plugin("f", [])


def test_missing_entry_file_is_named():
    """The entry must be among the files."""
    with pytest.raises(BadArtifact, match=r"'b\.wasm' is not among"):
        wasm.load(Artifact("tester", "b.wasm", {}))


def test_start_that_fails_later_fails_the_call():
    """An instance that cannot be replaced is never used again, and each call says why."""
    plugin = load_text(
        """(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 4) "\\01")
          (func (export "_initialize")
            (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
          (func (export "five") (result i32) (i32.const 5))
          (func (export "trap") unreachable))"""
    )
    assert plugin("five", []) == 5
    with pytest.raises(PluginRaised):
        plugin("trap", [])

    with read_only_stdout():
        for _ in range(2):
            with pytest.raises(PluginRaised, match="unreachable"):
                plugin("five", [])
    assert plugin("five", []) == 5


@contextlib.contextmanager
def read_only_stdout():
    """Put something that cannot be written to in the place of file descriptor 1."""
    real, broken = os.dup(1), os.open("/dev/null", os.O_RDONLY)
    os.dup2(broken, 1)
    try:
        yield
    finally:
        os.dup2(real, 1)
        os.close(real)
        os.close(broken)


# ---- the launcher


BOOT = """
import importlib.util, json, os, sys
folder, *paths = sys.argv[1:]
spec = importlib.util.spec_from_file_location("zygote", os.path.join(folder, "zygote.py"))
zygote = importlib.util.module_from_spec(spec)
spec.loader.exec_module(zygote)
zygote._bootstrap(paths)
from frys_runtime.launchers import wasm
from frys_runtime.launchers.artifact import Artifact
"""

FORK = (
    BOOT
    + """
wasm.prepare()
code = sys.stdin.buffer.read()
answers = []
for number in range(5):
    read, write = os.pipe()
    if not os.fork():
        before = sorted(os.listdir("/proc/self/fd"))
        wasm.park()
        plugin = wasm.load(Artifact(f"child {number}", "a.wasm", {"a.wasm": memoryview(code)}))
        for _ in range(200):
            plugin("upper", [b"x" * 64])
        try:
            plugin("fail", [b""])
        except Exception as error:
            kind = type(error).__name__
        facts = {
            "result": plugin("upper", [b"child %d" % number]).decode(),
            "failure": kind,
            "threads": len(os.listdir("/proc/self/task")),
            "new_files": len(os.listdir("/proc/self/fd")) - len(before),
        }
        os.write(write, json.dumps(facts).encode())
        os._exit(0)
    os.close(write)
    answers.append(json.loads(os.read(read, 10_000)))
    os.wait()
print(json.dumps(answers))
"""
)


def boot(script: str, *paths: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a script as the launcher is run: without site-packages but for the given folders."""
    command = [sys.executable, "-I", "-S", "-c", script, str(ROOT / "launchers"), str(ROOT), *paths]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def test_children_of_a_prepared_launcher():
    """Engine, host functions and traps work on the other side of a fork, with no thread or file more."""
    done = boot(FORK, sysconfig.get_paths()["platlib"], stdin=compile_fixture("text"))

    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == [
        {"result": f"CHILD {number}", "failure": "PluginRaised", "threads": 1, "new_files": 0}
        for number in range(5)
    ]


@pytest.mark.parametrize(
    ("folders", "reason"),
    [
        ([], "needs the package wasmtime"),
        (["wasmtime-49.0.0.dist-info"], "holds 49.0.0"),
        (
            ["wasmtime-50.0.1.dist-info", "wasmtime-51.0.0.dist-info"],
            r"holds (50\.0\.1 and 51|51\.0\.0 and 50)",
        ),
        (["wasmtime-50.1.0.dist-info"], "holds 50.1.0"),
        (["other-1.0.dist-info"], "without a version"),
        (["wasmtime-50.0.9.dist-info"], "no library for this machine"),
    ],
)
def test_foreign_wasmtime_is_refused(tmp_path, monkeypatch, folders, reason):
    """The declarations fit one version; any other is refused before it is opened."""
    if folders:
        (tmp_path / "wasmtime").mkdir()
        (tmp_path / "wasmtime" / "__init__.py").touch()
    for folder in folders:
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    with pytest.raises(RuntimeError, match=reason):
        wasm_library.find_library()


def test_bindings_are_what_the_declarations_give(tmp_path):
    """The checked-in cffi module is generated from its .cdef file, and not edited."""
    subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate-bindings", tmp_path], capture_output=True, check=True
    )

    for cdef in sorted((ROOT / "launchers" / "cdefs").glob("*.cdef")):
        name = f"_{cdef.stem}_abi.py"
        assert (tmp_path / name).read_text() == (ROOT / "launchers" / name).read_text(), name


def test_nothing_is_lost_over_many_instances():
    """A plugin that traps again and again does not grow."""
    plugin = load(compile_fixture("numbers"))

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def trap_often() -> None:
        for _ in range(300):
            with pytest.raises(PluginRaised):
                plugin("divide", [1, 0])

    trap_often()
    before = resident()
    for _ in range(5):
        trap_often()

    assert resident() - before < 4 << 20
