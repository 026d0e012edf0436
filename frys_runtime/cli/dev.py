"""`frys dev`: build, load and call a plugin again whenever a file of its folder is saved."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer
from rich.text import Text

from ..errors import ConfigError, InitializationFailed, PluginError, ReloadFailed, SandboxError
from ..manager import PluginManager
from ..metadata import Metadata, parse_metadata
from ..reload import is_lasting
from .arguments import argument
from .dev_folder import UNKNOWN, Build, Snapshot, changes, find_build, run_build, saves, snapshot
from .exits import UsageError
from .options import Isolation, PluginPaths, PolicyPath, Timeout, search_paths
from .terminal import as_text, milliseconds, printable, show_log, stdout

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOWN_FILES: Final = 3


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with plugin.json.")],
    function: Annotated[
        str | None, typer.Argument(help="A function to call; without one, they are listed.")
    ] = None,
    args: Annotated[list[str] | None, typer.Argument(help="What to call it with, as `frys run`.")] = None,
    *,
    isolation: Isolation = None,
    policy: PolicyPath = None,
    timeout: Timeout = None,
    build: Annotated[
        str | None, typer.Option("--build", metavar="CMD", help="How to build it, instead of what is found.")
    ] = None,
    no_build: Annotated[bool, typer.Option("--no-build", help="Build nothing.")] = False,
    plugin_path: PluginPaths = None,
) -> None:
    """Build, load and call a plugin, and again whenever a file of its folder is saved. Ctrl-C ends it.

    A Makefile with a target `build`, or a script `build` of package.json, is how the folder is built; which
    one is said before it runs. **It runs outside of the jail, as you.** The plugin itself never does.

    The new version is loaded beside the old one, which stays when the build or the load fails. Files and
    folders whose names begin with a dot are not watched: a good place for what a build needs.

    Plugins that it depends on are looked up in the folders of --plugin-path, and beside its folder.

    Exit codes: 0 ended by Ctrl-C or a signal; 2 wrong usage or policy; 6 this machine cannot build the jail.
    """
    if not (folder / "plugin.json").is_file():
        raise UsageError(f"{folder} is no folder with a plugin.json; `frys new` makes one")
    if build is not None and no_build:
        raise UsageError("--build and --no-build contradict each other")
    words = list(args or ())
    if "-" in words:
        raise UsageError("- could be read only once; put the bytes into a file, and write @FILE")
    for word in words:
        argument(word)  # wrong words are told before anything runs
    show_log()
    folder = folder.resolve()
    _say(f"{folder} is watched; Ctrl-C ends this")
    found = None if no_build else find_build(folder, build)
    if found is not None:
        _say(f"build: {found} ({found.source}; --no-build leaves it out)")
    paths = search_paths(folder, plugin_path)
    settings = {"policy": policy, "isolation": isolation, "plugin_paths": paths}
    with suppress(asyncio.CancelledError):
        asyncio.run(_develop(folder, found, _Call(function, words, timeout), settings))
    print("\nended; nothing of it is left", flush=True)


class _Call(NamedTuple):
    """What is called after every load.

    Attributes:
        function: Its name; ``None`` when the functions are only listed.
        words: Its arguments, as they stand on the command line.
        timeout_ms: Milliseconds that it may take.
    """

    function: str | None
    words: list[str]
    timeout_ms: int | None


async def _develop(folder: Path, build: Build | None, call: _Call, settings: dict[str, Any]) -> None:
    _end_on_signals()
    async with PluginManager(**settings, spares=0) as manager, _saves(folder) as saved:
        workshop = _Workshop(folder, build, call, manager)
        await workshop.work()
        while True:
            await saved()
            if changed := await workshop.changed():
                more = f" and {len(changed) - _SHOWN_FILES} more" if len(changed) > _SHOWN_FILES else ""
                print()
                _say(f"saved: {', '.join(sorted(changed)[:_SHOWN_FILES])}{more}")
                await workshop.work()


def _end_on_signals() -> None:
    """The first signal ends the session; another one does not disturb its end."""
    loop, session = asyncio.get_running_loop(), asyncio.current_task()
    assert session is not None

    def end() -> None:
        for number in _SIGNALS:
            loop.add_signal_handler(number, lambda: None)
        session.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, end)


@asynccontextmanager
async def _saves(folder: Path) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Watch from here on; calling what this gives waits until something was saved since the last time."""
    saved = saves(folder)
    waiting = asyncio.ensure_future(anext(saved))
    await asyncio.sleep(0)  # its first step: afterwards the kernel takes notes
    if waiting.done():
        await waiting  # it cannot be watched

    async def wait() -> None:
        nonlocal waiting
        await waiting
        waiting = asyncio.ensure_future(anext(saved))

    try:
        yield wait
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await saved.aclose()


class _Workshop:
    """One plugin, its live version, and what is known of its folder."""

    def __init__(self, folder: Path, build: Build | None, call: _Call, manager: PluginManager) -> None:
        self._folder, self._build, self._call, self._manager = folder, build, call, manager
        self._live = ""
        self._loaded_at = ""
        self._seen: Snapshot = snapshot(folder, {})
        self._made: set[str] = set()
        self._touched: set[str] = set()

    async def changed(self) -> set[str]:
        """The files that are not as they were when the last version was made of them."""
        now = await self._look()
        found = changes(self._seen, now)
        self._seen = now
        return found

    async def _look(self) -> Snapshot:
        return await asyncio.to_thread(snapshot, self._folder, self._seen)

    async def work(self) -> None:
        """Build, load and call."""
        if self._build is not None and not await self._succeeds(self._build):
            self._tell_what_stays()
        elif await self._load():
            await self._run()

    async def _succeeds(self, build: Build) -> bool:
        before = self._seen
        done = await run_build(build, self._folder)
        self._take_in(before, await self._look())
        if done.problem:
            if done.output:
                print(printable(done.output), flush=True)
            _say(f"the build failed: {done.problem}", style="red")
        else:
            _say(f"built in {milliseconds(done.ms)} ms")
        return not done.problem

    def _take_in(self, before: Snapshot, after: Snapshot) -> None:
        """Tell what a build has written from what somebody has saved while it ran.

        What a build creates is its own, and so is the entry. Another file that changed was saved by somebody,
        and stays unseen, so that it counts as changed; but not when that happens in two builds in a row.
        """
        self._made |= (after.keys() - before.keys()) | {_entry(self._folder)}
        touched = (changes(before, after) & before.keys()) - self._made
        if touched <= self._touched:
            self._made |= touched
        self._touched = touched - self._made
        self._seen = after | {path: before[path] for path in self._touched}

    async def _load(self) -> bool:
        before, error = await self._look(), ""
        try:
            self._live = await self._replace()
        except ReloadFailed as failure:
            if is_lasting(failure):
                raise failure.__cause__ or failure from None
            error = str(failure.__cause__ or failure.reason)
        except (SandboxError, InitializationFailed):
            raise  # no save can make that better
        except PluginError as failure:
            error = str(failure)
        else:
            self._loaded_at = _clock()
        if meanwhile := changes(before, await self._look()):
            self._seen |= dict.fromkeys(meanwhile, UNKNOWN)
            _say("it was saved while it was read; once more")
            return False
        if error:
            _say(error, style="red")
            self._tell_what_stays()
            return False
        new = self._manager.plugin(self._live)
        _say(f"loaded {new.id} {new.metadata.version} in {milliseconds(new.load_ms)} ms", style="green")
        return True

    async def _replace(self) -> str:
        """Have the folder's plugin serve in the place of the live version; its id."""
        if not self._live:
            return await self._manager.load_plugin(self._folder)
        if (named := _about(self._folder)) is not None and named.id != self._live:
            new = await self._manager.load_plugin(self._folder)
            await self._manager.unload_plugin(self._live)
            return new
        return (await self._manager.reload_plugin(self._live)).plugin_id

    def _tell_what_stays(self) -> None:
        if self._live:
            _say(f"the version of {self._loaded_at} stays loaded")

    async def _run(self) -> None:
        plugin, call = self._manager.plugin(self._live), self._call
        if call.function is None:
            for name, signature in sorted(plugin.functions.items()):
                print(printable(f"  {name}  {signature}"), flush=True)
            return
        began = time.perf_counter()
        try:
            args = [argument(word) for word in call.words]
            result = await plugin.call(call.function, *args, timeout_ms=call.timeout_ms)
        except (PluginError, UsageError, TypeError, ValueError) as error:
            _say(str(error), style="red")
            end = "failed after"
        else:
            print(as_text(result), flush=True)
            end = "took"
        _say(f"{call.function} {end} {milliseconds((time.perf_counter() - began) * 1000)} ms")


def _entry(folder: Path) -> str:
    """The file that a build makes, if plugin.json can be read just now."""
    about = _about(folder)
    return "" if about is None else about.entry


def _about(folder: Path) -> Metadata | None:
    """What plugin.json says, if it can be read just now."""
    try:
        return parse_metadata((folder / "plugin.json").read_bytes(), "plugin.json")
    except (OSError, ConfigError):
        return None


def _clock() -> str:
    return time.strftime("%H:%M:%S")


def _say(text: str, style: str = "") -> None:
    stdout().print(Text.assemble((_clock(), "dim"), "  ", (printable(text), style)), soft_wrap=True)
