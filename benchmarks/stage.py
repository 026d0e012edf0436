"""Where contenders stand: one process each, and turns that alternate so that noise hits all alike."""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from .figures import Series

ROOT: Final = Path(__file__).resolve().parent.parent
_SOURCES: Final = Path(__file__).parent / "plugins"
_END_SECONDS: Final = 60


class Contender:
    """One measured process; it answers each request, a JSON object, with one JSON value.

    Attributes:
        absent: Why it does not run here; empty when it does.
    """

    def __init__(self, module: str, arguments: list[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.contenders.{module}", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is for this process, which then ends all contenders in order
        )
        self.absent = ""
        ready = self._answer()
        if ready is not True and not self.absent:
            self.absent = str(ready)

    def ask(self, **request: Any) -> Any:
        """Give it one turn; ``None`` when it cannot run, and ``absent`` says why."""
        if self.absent:
            return None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the missing answer says it
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._errors.seek(0)
        words = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        self.absent = words[-1] if words else f"its process ended with status {self._process.wait()}"
        return None

    def end(self) -> None:
        """Let it clean up and wait for it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


class Stage:
    """Builds the plugins in a temporary folder and ends every contender that it has started.

    Attributes:
        folder: The plugins: ``bench.wasm``, ``bench.so``, ``bench.js``, ``bench.py``, ``python-main/``,
            ``bench_extism.wasm``, ``bench_component.wasm``, ``large.wasm``, ``caller.py``, which calls the
            others, and ``listener.py``, which gets events.
        missing: Formats whose plugin cannot be built here, with the reason.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="frys-bench-"))
        self.missing: dict[str, str] = {}
        self._contenders: list[Contender] = []

    def __enter__(self) -> Self:
        self._build()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _build(self) -> None:
        import wasmtime

        for name in ("bench", "bench_extism", "bench_component"):
            code = wasmtime.wat2wasm((_SOURCES / f"{name}.wat").read_text())
            (self.folder / f"{name}.wasm").write_bytes(code)
        (self.folder / "large.wasm").write_bytes(wasmtime.wat2wasm(_large()))
        shutil.copy(_SOURCES / "bench.js", self.folder)
        shutil.copy(_SOURCES / "bench.py", self.folder)
        shutil.copy(_SOURCES / "caller.py", self.folder)
        shutil.copy(_SOURCES / "listener.py", self.folder)
        main = self.folder / "python-main"
        main.mkdir()
        shutil.copy(_SOURCES / "bench.py", main)
        facts = {"id": "bench-main", "name": "Benchmark", "version": "1.0.0", "format": "python"}
        facts |= {"entry": "bench.py", "python": {"interpreter": "main"}}  # type: ignore[dict-item]
        (main / "plugin.json").write_text(json.dumps(facts))
        library, source = str(self.folder / "bench.so"), str(_SOURCES / "bench.c")
        command = ["gcc", "-O2", "-shared", "-fPIC", "-o", library, source]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except FileNotFoundError:
            self.missing["native"] = "gcc is not installed, so there is no native plugin to measure"
        except subprocess.CalledProcessError as error:
            self.missing["native"] = f"gcc failed: {error.stderr.decode('utf-8', 'replace').strip()}"

    def contender(self, module: str, *arguments: object) -> Contender:
        """Start ``benchmarks.contenders.<module>``; it ends with the stage, or at the next ``clear``."""
        made = Contender(module, [str(argument) for argument in arguments])
        self._contenders.append(made)
        return made

    def clear(self) -> None:
        """End every contender, so that the next benchmark has the machine for itself."""
        while self._contenders:
            self._contenders.pop().end()


def _large() -> str:
    """A module of 2.3 MB, all of it code."""
    product, mixed = "(i32.mul (local.get 0) (i32.const {}))", "(i32.xor (local.get 1) (i32.const {}))"
    step = f"(local.set 1 (i32.add {product} {mixed}))"
    functions = "".join(
        f"(func (param i32) (result i32) (local i32) "
        f"{''.join(step.format(7 * n + m, 13 * m + n) for m in range(12))} (local.get 1))"
        for n in range(11_000)
    )
    return f'(module {functions} (func (export "answer") (result i32) (i32.const 42)))'


def alternate(turns: dict[str, tuple[Contender, dict[str, Any]]], rounds: int) -> dict[str, Series]:
    """Give each contender its turn in every round.

    Args:
        turns: By name, the contender and the request of its turn; the answer is a list of numbers.
        rounds: How many. Each begins one contender later than the one before.
    """
    series = {name: Series(absent=contender.absent) for name, (contender, _) in turns.items()}
    names = list(turns)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            contender, request = turns[name]
            values = contender.ask(**request)
            if contender.absent:
                series[name].absent = contender.absent
            else:
                series[name].rounds.append(values)
    return series
