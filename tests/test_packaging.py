"""The promises of the package as a whole: cheap to import, complete, documented, layered, one
version."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from reading_order import faces, modules

import minildm

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "minildm"
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = [
    path
    for folder in ("tests", "benchmarks", "data", "scripts")
    for path in sorted((ROOT / folder).glob("*.py"))
]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

HEAVY = ("transformers", "matplotlib", "diffusers", "accelerate", "torchvision", "IPython")


def python(code: str) -> str:
    """What a fresh interpreter prints for this code."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def imported_by(code: str) -> set[str]:
    """The top-level packages that this code imports, directly or not."""
    return set(
        python(
            f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
        ).split()
    )


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_importing_minildm_imports_neither_torch_nor_anything_heavy():
    assert not imported_by("import minildm") & {"torch", "numpy", *HEAVY}


def test_all_public_names_together_cost_at_most_0_3_s_more_than_torch_and_import_nothing_heavy():
    code = """
import sys, time, torch
start = time.process_time()  # not the clock on the wall, which counts what else the machine does
from minildm import *
print(time.process_time() - start, *{name.partition(".")[0] for name in sys.modules})
"""
    for _ in range(3):  # the first also compiles the modules
        seconds, *imported = python(code).split()
        if float(seconds) <= 0.3:
            break
    assert float(seconds) <= 0.3
    assert not set(imported) & set(HEAVY)


@pytest.mark.parametrize("arguments", [[], ["train"], ["sample"], ["lora"], ["data"]], ids=str)
def test_help_imports_no_torch(arguments):
    code = f"""
import sys
from minildm.cli import app
sys.argv = ["minildm", *{arguments}, "--help"]
try:
    app()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert "torch" not in imported_by(code)


def test_the_command_is_minildm_cli_app():
    assert PYPROJECT["project"]["scripts"] == {
        "minildm": "minildm.cli:app",
        "minildm-grade": "minildm.grading.cli:app",
    }
    assert callable(importlib.import_module("minildm.cli").app)
    assert callable(importlib.import_module("minildm.grading.cli").app)


@pytest.mark.parametrize("name", minildm.__all__)
def test_every_public_name_resolves(name):
    assert getattr(minildm, name) is not None
    assert name in dir(minildm)


def test_type_checkers_see_the_names_that_are_imported_lazily():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    seen = {
        alias.asname: node.module
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        for alias in node.names
    }
    assert seen == minildm._MODULE_OF
    assert (PACKAGE / "py.typed").exists()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Unet'"):
        _ = minildm.Unet


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_everything_public_has_a_docstring(path):
    tree = ast.parse(path.read_text())
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [
        node
        for node in tree.body
        if isinstance(node, definitions) and not node.name.startswith("_")
    ]
    public = [
        node for node in public if node.name != "main"
    ]  # a script's docstring says what it does
    assert ast.get_docstring(tree), "the module has none"
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_reads_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 320


def module_of(path: Path) -> str:
    """The name in the reading order: `models.unet`; a folder inside a package counts as one
    module."""
    package, *rest = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join([package, *rest[:1]])


def minildm_imports(path: Path) -> set[str]:
    """The modules of minildm that a file imports, inside functions too: `models.unet`. What it has
    from a package's face instead, `models.UNet2DModel`, is no module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole path"
            of_a_file = ROOT.joinpath(*node.module.split(".")).with_suffix(".py").exists()
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {node.module} if of_a_file else names
    within = {name for name in found if name.split(".")[0] == "minildm"}
    return {".".join(name.removeprefix("minildm.").split(".")[:2]) for name in within}


MODULES_IN_ORDER = modules()


def test_the_reading_order_names_every_module_once():
    files = {module_of(path) for path in MODULES if path.stem not in {"__init__", "__main__"}}
    assert sorted(MODULES_IN_ORDER) == sorted(files)


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.stem not in {"__init__", "__main__"}], ids=relative
)
def test_imports_point_one_way(path):
    module = module_of(path)
    above = MODULES_IN_ORDER[: MODULES_IN_ORDER.index(module)]
    own = {module} if "." in module and path.parent.parent.parent == PACKAGE else set()
    assert minildm_imports(path) <= {*above, *own}  # files import files, never a package's face


@pytest.mark.parametrize("package", sorted(faces()))
def test_a_package_hands_on_only_what_is_its_own(package):
    for name, module in faces()[package].items():
        assert module.split(".")[0] == package, name
    face = minildm_imports(PACKAGE / package / "__init__.py")
    assert {name.split(".")[0] for name in face} <= {package}
    found = importlib.import_module(f"minildm.{package}")
    assert set(faces()[package]) <= set(getattr(found, "__all__", []))
    assert [name for name in getattr(found, "__all__", []) if not hasattr(found, name)] == []


def test_the_version_is_the_same_everywhere():
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "minildm/__init__.py"
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == minildm.__version__
    latest = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest and latest[1] == minildm.__version__


def test_the_readme_fits_one_screen_and_its_links_lead_somewhere():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 50
    links = re.findall(r"\]\((?!http)([^)#]+)", readme) + re.findall(
        r'src="(?!http)([^"]+)"', readme
    )
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert "make lab" in readme and "make test" in readme


def test_ci_runs_the_readmes_test_command_and_then_the_pages():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert "make test" in lines and lines[-1].endswith("make test-browser")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_types_hold_without_a_rule_switched_off_or_a_path_left_out():
    assert PYPROJECT["tool"]["pyright"] == {"include": ["minildm"], "typeCheckingMode": "basic"}
    assert not (ROOT / "pyrightconfig.json").exists()  # it would go before pyproject.toml
    text = "\n".join(path.read_text(encoding="utf-8") for path in MODULES)
    assert len(re.findall(r"\bAny\b", text)) <= 169  # as many as when the count began
    assert not re.search(r"\bcast\(|import cast\b|type: *ignore|pyright: *(basic|off|strict)", text)
    lines = text.splitlines()
    silenced = [i for i, line in enumerate(lines) if "pyright:" in line]
    assert len(silenced) <= 10
    for i in silenced:  # the rule in brackets, the reason in a comment behind it or above
        found = re.search(r"# pyright: ignore\[\w+\](  # .+)?$", lines[i])
        assert found and (found[1] or lines[i - 1].lstrip().startswith("# ")), lines[i]


def test_dependencies_stand_once():
    """Every extra and environment.yml draw on pyproject.toml; no package is named in two of its
    lists."""
    project = PYPROJECT["project"]
    named = names(sum(project["optional-dependencies"].values(), start=project["dependencies"]))
    assert sorted(named) == sorted(set(named))
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"][-1] == {"pip": ["-e .[course,test]"]}


def third_party(sources: list[str]) -> set[str]:
    """The distributions that these sources import, beside the standard library and the project's
    own files."""
    found = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
    own = {"minildm", *(path.stem for path in [*SCRIPTS, *(ROOT / "docs").glob("*.py")])}
    distribution = {"PIL": "pillow", "yaml": "pyyaml", "py_mini_racer": "mini-racer"}
    distribution |= {"cosmic_ray": "cosmic-ray", "IPython": "ipython"}
    return {distribution.get(name, name) for name in found - sys.stdlib_module_names - own}


def names(requirements: list[str]) -> list[str]:
    """The distributions that a list of requirements names, without versions; the project itself
    left out."""
    found = [re.split(r"[\[<>=~!; ]", requirement)[0] for requirement in requirements]
    return [name for name in found if name != "minildm"]


def declared(*extras: str) -> set[str]:
    """The names of the core dependencies and of these extras."""
    project = PYPROJECT["project"]
    return {
        *names(project["dependencies"]),
        *names([x for e in extras for x in project["optional-dependencies"][e]]),
    }


def test_every_import_is_a_declared_dependency():
    figures = {*PACKAGE.glob("plots/*.py"), *PACKAGE.glob("widgets/*.py")}  # for the notebooks
    grading = set((PACKAGE / "grading").rglob("*.py"))  # for teachers
    assert (
        third_party([path.read_text() for path in MODULES if path not in figures | grading])
        <= declared()
    )
    assert third_party([path.read_text() for path in grading]) <= declared("grade")
    assert third_party([path.read_text() for path in figures]) <= declared("course")
    notebooks = [
        json.loads(path.read_text())["cells"] for path in (ROOT / "notebooks").glob("*.ipynb")
    ]
    cells = [
        "".join(cell["source"])
        for cells in notebooks
        for cell in cells
        if cell["cell_type"] == "code"
    ]
    assert third_party([re.sub(r"(?m)^\s*[%!].*", "", cell) for cell in cells]) <= declared(
        "course"
    )
    assert third_party([path.read_text() for path in SCRIPTS]) <= declared(
        "course", "grade", "test", "mutants"
    )
    assert third_party([(ROOT / "browser" / "build.py").read_text()]) <= declared("book")


def test_shipped_weights_are_small_and_never_pickled():
    files = [path for path in (PACKAGE / "weights").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 60e6
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl"}]
