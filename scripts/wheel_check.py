"""Builds the sdist and the wheels, and proves that what a user installs works without this checkout.

Checked: the wheels built from the checkout and from the sdist hold every file of src/ and nothing else, and in a
clean environment with all extras every module imports and `stagecast --help` runs.
"""

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Runs in the clean environment. `stagecast.entrypoints.testing` needs pytest, which is no dependency of stagecast.
IMPORT_ALL = """
import importlib, pathlib, pkgutil, stagecast
assert pathlib.Path(stagecast.__file__).with_name("py.typed").is_file()
names = [m.name for m in pkgutil.walk_packages(stagecast.__path__, "stagecast.", onerror=lambda name: None)]
names = [n for n in names if not n.startswith("stagecast.entrypoints.testing") and not n.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(f"stagecast {stagecast.__version__}: {len(names)} modules import")
"""


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command; show its output only when it fails."""
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\nwheel-check failed: {' '.join(map(str, command))}")


def source_files() -> set[str]:
    """The files of src/ under the names they must have in a wheel."""
    files = (path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"stagecast/{path.relative_to(ROOT / 'src').as_posix()}" for path in files}


def wheel_files(folder: Path) -> tuple[Path, set[str]]:
    """The only wheel of a folder and the package files in it."""
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return wheel, {name for name in archive.namelist() if ".dist-info/" not in name}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="stagecast-wheel-") as name:
        work = Path(name)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", work / "direct")
        run(sys.executable, "-m", "build", "--outdir", work / "by-sdist")  # sdist, then the wheel from it
        wheel, direct = wheel_files(work / "direct")
        _, by_sdist = wheel_files(work / "by-sdist")
        for where, files in (("the checkout", direct), ("the sdist", by_sdist)):
            if difference := files ^ source_files():
                sys.exit(f"wheel-check failed: the wheel built from {where} and src/ differ in {sorted(difference)}")

        venv.create(work / "clean", with_pip=True)
        python = work / "clean" / "bin" / "python"
        run(python, "-m", "pip", "install", "-q", f"{wheel}[all]")
        run(python, "-I", "-c", IMPORT_ALL, cwd=work)
        run(python.with_name("stagecast"), "--help", cwd=work)
    print(f"wheel-check passed: {len(direct)} files")


if __name__ == "__main__":
    main()
