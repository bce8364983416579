"""What students get: notebooks without solutions and hidden tests (by nbgrader's preprocessors),
and a bundle."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path
from typing import Any

from minildm.grading.assignment import BADGE, Assignment, fingerprint, with_constants


def student_version(assignment: Assignment) -> Any:
    """The student's version of a source notebook, as nbgrader's `generate_assignment` makes it,
    with the key's constants."""
    import nbformat
    from nbgrader.preprocessors import (
        CheckCellMetadata,
        ClearHiddenTests,
        ClearOutput,
        ClearSolutions,
        LockCells,
    )

    notebook = nbformat.read(assignment.path, as_version=4)
    resources: Any = {"nbgrader": {}}
    for cell in notebook.cells:
        cell.source = with_constants(cell.source, assignment.key, assignment.name)
    for preprocessor in (
        CheckCellMetadata,
        LockCells,
        ClearSolutions,
        ClearOutput,
        ClearHiddenTests,
    ):
        notebook, resources = preprocessor().preprocess(notebook, resources)
    for cell in notebook.cells:
        cell.source = cell.source.rstrip() or "\n"
    notebook.metadata["minildm"] = {
        "assignment": assignment.name,
        "key": fingerprint(assignment.key),
        "limits": assignment.limits._asdict(),  # for who tries it
        "step_seconds": assignment.step_seconds,
    }
    nbformat.validate(notebook)
    return notebook


def with_badges(notebook: Any, assignment: Assignment, repository: str) -> Any:
    """The notebook for Colab, Binder or a laptop without the course: badges, and a first cell that
    installs minildm.

    repository: owner/name on GitHub; the badges look in its folder release/.
    """
    import nbformat

    notebook = copy.deepcopy(notebook)
    file = f"{assignment.name}.ipynb"
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/release/{file}"
    binder = f"https://mybinder.org/v2/gh/{repository}/HEAD?labpath=release%2F{file}"
    badges = (
        f"[![Open in Colab]({BADGE})]({colab}) "
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})\n\n"
        "The badges need the internet and a published copy of the course; nothing else here does. "
        "On a machine without the course, the next cell installs its package."
    )
    install = (
        "try:\n    import minildm\nexcept ImportError:\n"
        f"    %pip install --quiet git+https://github.com/{repository}\n    import minildm"
    )
    notebook.cells[1:1] = [
        nbformat.v4.new_markdown_cell(badges),
        nbformat.v4.new_code_cell(install),
    ]
    return notebook


def make_release(
    assignments: dict[str, Assignment],
    out: Path,
    repository: str = "",
    book: Path | None = None,
) -> list[Path]:
    """Write every release notebook to `out`, and a zip of all of them for students who do not use
    nbgrader.

    repository: where the course is published, owner/name on GitHub, for badges and the cell that
    installs minildm; without it the zip's notebooks have neither. book: the folder of the built
    book, for those who only read; it goes into the zip.
    """
    import nbformat

    out.mkdir(parents=True, exist_ok=True)
    written = []
    bundle = out / "minildm-assignments.zip"
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, assignment in assignments.items():
            notebook = student_version(assignment)
            nbformat.write(notebook, out / f"{name}.ipynb")
            written.append(out / f"{name}.ipynb")
            if repository:
                notebook = with_badges(notebook, assignment, repository)
            archive.writestr(f"{name}.ipynb", nbformat.writes(notebook))
        archive.writestr("README.txt", readme(repository))
        if book is not None:
            for path in sorted(book.rglob("*")):
                if path.is_file():
                    archive.write(path, Path("book") / path.relative_to(book))
    return [*written, bundle]


def readme(repository: str) -> str:
    """The zip's README.txt."""
    if repository:
        return README.format(package="the first cell installs it where it is missing")
    return README.format(package="whoever gave you this says from where")


README = """Assignments of the minildm course
=================================

Open a notebook in JupyterLab, in VS Code, or in Colab. Each says what you will learn, how long it
takes, and how many points it gives. Write only where it says YOUR CODE HERE; hand in the notebook
under the name it has.

Before you do, `minildm-grade try NOTEBOOK.ipynb` runs it as it will be graded (Linux, macOS, or WSL
on Windows), with the tests that you see; others, which you do not see, are run when it is graded.

You need Python 3.11 to 3.13 and the package minildm with its data: {package}. No accelerator is
needed. The chapters that explain it all are in the course's book, which can also be read without
running anything: if there is a folder `book` beside this file, open book/docs/index.html in a
browser. Its figures move as they are; to draw on its front page as well, run
`python -m http.server` in that folder and open the address it says.
"""
