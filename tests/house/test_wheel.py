"""What is shipped: built from a copy of the repository, installed into a fresh environment, run there."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
SHIPPED_FOLDERS = {
    "frys_runtime": "frys_runtime",
    "frys_runtime.launchers": "launchers",
    "frys_runtime.policies": "policies",
}


def _packages_on_disk() -> dict[str, Path]:
    """Every folder with Python code or policies in it, by the name that it has once installed."""
    found = {}
    for package, folder in SHIPPED_FOLDERS.items():
        for path in [ROOT / folder, *sorted((ROOT / folder).rglob("*/"))]:
            if any(path.glob("*.py")):
                found[".".join([package, *path.relative_to(ROOT / folder).parts])] = path
    return found


def _run(command: list, **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from the source distribution, so that this one is complete too."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for folder in SHIPPED_FOLDERS.values():
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    _run([sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, source])
    return next(dist.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A fresh environment with the wheel in it, and what it depends on borrowed from this one."""
    venv = tmp_path_factory.mktemp("venv")
    _run([sys.executable, "-m", "venv", "--without-pip", venv])
    python = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    _run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel])
    site = Path(_run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    # The path goes behind the fresh one, and no .pth file of this environment is read: its editable Frys
    # stays out.
    (site / "borrowed.pth").write_text(sysconfig.get_path("platlib") + "\n")
    return venv


def test_package_list_is_complete():
    """pyproject.toml names every package folder and no folder that is not there."""
    assert sorted(SETUPTOOLS["packages"]) == sorted(_packages_on_disk())


def test_wheel_claims_one_name(wheel):
    """Nothing but frys_runtime and its metadata lands in site-packages."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}

    assert tops == {"frys_runtime", f"frys_runtime-{_version()}.dist-info"}


def test_wheel_contains_every_module_and_policy(wheel):
    """Each Python file, policy, template, C header and file of type information is in the wheel."""
    templates = (ROOT / "frys_runtime" / "templates").rglob("*")
    expected = {"frys_runtime/py.typed"}
    expected |= {str(path.relative_to(ROOT)) for path in templates if path.is_file()}
    for folder in ("include", "types"):
        files = (ROOT / "launchers" / folder).iterdir()
        expected |= {f"frys_runtime/launchers/{folder}/{file.name}" for file in files}
    for package, path in _packages_on_disk().items():
        shipped = [*path.glob("*.py"), *path.glob("*.yaml")]
        expected |= {f"{package.replace('.', '/')}/{file.name}" for file in shipped}
    with zipfile.ZipFile(wheel) as archive:
        assert expected <= set(archive.namelist())


def test_installed_package_is_complete(installed):
    """Launchers, policies and the version are found from another folder, away from the repository."""
    code = (
        "import frys_runtime, importlib.metadata as metadata, importlib.resources as resources, sys\n"
        "assert frys_runtime.__file__.startswith(sys.prefix), frys_runtime.__file__\n"
        "assert frys_runtime.__version__ == metadata.version('frys-runtime')\n"
        "print(resources.files('frys_runtime.launchers').joinpath('zygote.py').is_file())\n"
        "print(sorted(file.name for file in resources.files('frys_runtime.policies').iterdir()))"
    )
    launcher, policies = _run([installed / "bin" / "python", "-I", "-c", code], cwd="/").splitlines()

    assert launcher == "True"
    for file in (ROOT / "policies").glob("*.yaml"):
        assert file.name in policies


def test_installed_command_runs(installed):
    """The command `frys` is there and knows its version."""
    assert _version() in _run([installed / "bin" / "frys", "--version"], cwd="/")


@pytest.mark.needs_userns
@pytest.mark.needs_landlock
@pytest.mark.needs_seccomp_notify
def test_pytest_finds_its_plugin(installed, tmp_path):
    """Its fixtures are there without a line of configuration, and run a plugin with what is installed."""
    (tmp_path / "plugin.py").write_text("def f(): return 1\n")
    (tmp_path / "test_it.py").write_text(
        "def test(frys_plugin): assert frys_plugin('plugin.py').call('f') == 1\n"
    )
    command = [installed / "bin" / "python", "-m", "pytest", "-W", "error", "--frys-isolation", "high"]

    assert "1 passed" in _run(command, cwd=tmp_path)


def test_repository_root_is_not_importable():
    """In the editable installation, too, launchers/ and policies/ have no top-level name."""
    code = (
        "import importlib.util as u; print([n for n in ('launchers', 'policies', 'tests') if u.find_spec(n)])"
    )

    assert _run([sys.executable, "-I", "-c", code], cwd="/").strip() == "[]"


def _version() -> str:
    import frys_runtime

    return frys_runtime.__version__
