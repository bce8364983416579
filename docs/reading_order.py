"""The order in which the package is read, taken from the one place where it stands: the first lines
of `minildm`."""

import ast
import functools
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "minildm"
LEFT_OUT = ("plots", "widgets", "grading", "cli")  # of the course, not of diffusion


def docstring(file: Path) -> str:
    """A module's docstring, read without importing it."""
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


@functools.cache
def reading_order() -> dict[str, list[str]]:
    """Package -> its files, in the order of the tree in minildm's docstring; "" has the files at
    the door."""
    tree = [
        line for line in docstring(PACKAGE / "__init__.py").splitlines() if line.startswith("    ")
    ]
    order: dict[str, list[str]] = {"": []}
    package = ""
    for word in " ".join(tree).split():
        if word.endswith("/"):
            package = word.removesuffix("/")
            order[package] = []
        else:
            order[package].append(word)
    return order


def modules() -> list[str]:
    """Every module with its package, `models.unet`, in reading order."""
    return [
        f"{package}.{file}".lstrip(".")
        for package, files in reading_order().items()
        for file in files
    ]


@functools.cache
def faces() -> dict[str, dict[str, str]]:
    """What each package hands on: package -> name -> the module that it comes from,
    `models.unet`."""
    handed: dict[str, dict[str, str]] = {}
    for package in filter(None, reading_order()):
        tree = ast.parse((PACKAGE / package / "__init__.py").read_text(encoding="utf-8"))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        own = [node for node in imports if (node.module or "").startswith("minildm.")]
        names = {alias.name: node.module for node in own for alias in node.names}
        handed[package] = {name: module.removeprefix("minildm.") for name, module in names.items()}
    return handed


def api_page() -> str:
    """The book's pages of the package: every module that is about diffusion, in reading order."""
    page = [
        "# The package",
        "Every module of `minildm`, in the order in which it can be read: each uses only what "
        "stands above it. *[source]* beside a name leads to its lines. The figures, the widgets, "
        "the grader and the command line are left out: their help is `minildm --help` and the "
        "chapters that use them.",
    ]
    for package, files in reading_order().items():
        if package in LEFT_OUT:
            continue
        name = f"minildm.{package}" if package else "minildm"
        page.append(f"## {name}")
        if package:
            page.append(docstring(PACKAGE / package / "__init__.py"))
        for module in [f"{name}.{file}" for file in files]:
            page.append(f"### {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n```")
    return "\n\n".join(page) + "\n"
