"""Another machine, as far as one process can be kept from knowing this one: an interpreter without this checkout and without network."""

import io
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
WATCH = """
import atexit, socket, sys

def note(file, text):
    with open(file, "a") as to:
        print(text, file=to)

def refuse(*args, **_):
    note({attempts!r}, args)
    raise OSError("no network here")

def unless_local(real):
    return lambda s, *args: refuse(s, *args) if s.family in (socket.AF_INET, socket.AF_INET6) else real(s, *args)

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, unless_local(getattr(socket.socket, name)))
socket.create_connection = socket.getaddrinfo = refuse

@atexit.register
def tell():
    if "bench" in sys.modules:
        note({origins!r}, sys.modules["bench"].__file__)
"""
BACKEND = """
import zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(f"{{folder}}/{{name}}", "w") as wheel:
        for file, text in {files!r}.items():
            wheel.writestr(file, text)
    return name
"""


@dataclass(frozen=True)
class Machine:
    """Its interpreter, and two files: tries to reach a network, and where each process had the project from."""

    python: Path
    attempts: Path
    origins: Path

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        return run(self.python, *words)


def machine(folder: Path) -> Machine:
    """A virtual environment that sees the packages installed here and no path file of theirs, through which a checkout is imported."""
    venv.create(folder / "env", with_pip=False, symlinks=True)
    made = Machine(folder / "env/bin/python", folder / "attempts", folder / "origins")
    (packages,) = (folder / "env/lib").glob("python*/site-packages")
    (packages / "watch.py").write_text(WATCH.format(attempts=str(made.attempts), origins=str(made.origins)))
    others = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (packages / "elsewhere.pth").write_text("\n".join([*others, "import watch", ""]))
    return made


def run(python: Path | str, *words: object) -> subprocess.CompletedProcess[str]:
    """A command that finds this interpreter in PYTHON and knows of no other path."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHON": str(python)}
    return subprocess.run([str(word) for word in words], env=env, cwd="/", capture_output=True, text=True, timeout=600, check=False)


def wheel_files(name: str, tag: str = "py3-none-any", needs: tuple[str, ...] = ()) -> dict[str, str]:
    info = f"{name}-1.0.dist-info"
    asked = "".join(f"Requires-Dist: {need}\n" for need in needs)
    return {
        f"{name}.py": "ANSWER = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{asked}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/RECORD": "".join(f"{file},,\n" for file in (f"{name}.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD")),
    }


def made_wheel(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in wheel_files(name).items():
            wheel.writestr(file, text)
    return path


def made_source(folder: Path, name: str, tag: str) -> Path:
    """A source distribution whose build yields a wheel of this tag, and asks nothing of an index."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND.format(name=name, tag=tag, files=wheel_files(name, tag)),
    }
    path = folder / f"{name}-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for file, text in files.items():
            info = tarfile.TarInfo(f"{name}-1.0/{file}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return path
