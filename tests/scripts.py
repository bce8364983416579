"""For the tests of benchmarks/: a script as a module, and a run of it in a folder of its own."""

import importlib.util
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def load(name: str) -> ModuleType:
    """benchmarks/`name`.py, which is in no package."""
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script: ModuleType, monkeypatch, folder: Path, *arguments: str) -> None:
    """Its main(), as from the command line, with cells and result in `folder`."""
    command = [
        script.__file__,
        "--runs",
        str(folder / "runs"),
        "--out",
        str(folder / "out.json"),
        *arguments,
    ]
    monkeypatch.setattr("sys.argv", command)
    script.main()
