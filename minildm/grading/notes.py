"""What a teacher should know of a submission beside its points: it is another notebook, cells are
gone or were not run, the finished thing is imported."""

from __future__ import annotations

import ast
import re

from minildm.grading.assignment import Assignment, NotebookCell, nbgrader_of, text_of

# Where code, or what was code once, defines a name.
DEFINITION = re.compile(r"^(?:async +)?(?:def|class) +(\w+)|^(\w+) *(?::.*)?=(?!=)", re.MULTILINE)


def definitions(source: str) -> set[str]:
    """The names that a text defines at its outermost level, whether or not it is Python."""
    return {name for match in DEFINITION.finditer(source) for name in match.groups() if name}


def wanted(assignment: Assignment) -> dict[str, str]:
    """What students are to define: name -> the solution's cell."""
    cells = {nbgrader_of(cell).get("grade_id"): text_of(cell) for cell in assignment.cells}
    return {name: cell for cell in assignment.solutions() for name in definitions(cells[cell])}


def what_it_is_instead(
    cells: list[NotebookCell], assignment: Assignment, said: object
) -> str | None:
    """A sentence if this is no notebook of the assignment: no cell of a solution is there by name,
    and none of the wanted names is defined, or `said`, its own metadata, names another one."""
    names = {str(nbgrader_of(cell).get("grade_id")) for cell in cells}
    if names & set(assignment.solutions()):
        return None
    defined = {n for cell in cells for n in definitions(text_of(cell))}
    other = said[:60] if isinstance(said, str) and said != assignment.name else ""
    if not other and defined & set(wanted(assignment)):
        return None
    label = f"it is the notebook of {other!r}" if other else "it is another notebook"
    found = ", ".join(sorted(defined))[:200] or "nothing"
    return (
        f"{label}, handed in as {assignment.name!r}: it has none of the cells that were to be "
        f"filled in; what it defines: {found}"
    )


def notes_on_unrun(cells: list[NotebookCell], assignment: Assignment) -> list[str]:
    """Solutions that are no code any more: in a Markdown or raw cell, or emptied."""
    solutions = assignment.solutions()
    asked = wanted(assignment)
    notes = []
    for number, cell in enumerate(cells, 1):
        name = nbgrader_of(cell).get("grade_id")
        text = text_of(cell)
        if cell["cell_type"] == "code":
            if name in solutions and not text.strip():
                notes.append(f"the cell {name} was emptied")
            continue
        defined = sorted(definitions(text) & set(asked))
        if name in solutions or defined:
            what = f"the cell {name}" if name in solutions else f"cell {number}"
            has = f", with {', '.join(defined)} in it" if defined else ""
            notes.append(f"{what} is a {cell['cell_type']} cell{has}: it was not run")
    return notes


def notes_on_names(names: list[str], assignment: Assignment) -> list[str]:
    """Cells that are gone or stand twice."""
    expected = [*assignment.locked(), *assignment.solutions(), *assignment.tests()]
    if not set(names) & set(expected):
        return ["no cell has nbgrader's metadata; graded by what the notebook defines"]
    gone = [name for name in expected if name not in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    notes = []
    if gone:
        notes.append(f"cells deleted or renamed: {', '.join(gone)}")
    if twice:
        notes.append(f"cells that stand twice, both run: {', '.join(twice)[:200]}")
    return notes


def notes_on_imports(sources: list[str], assignment: Assignment) -> list[str]:
    """Where a solution imports the finished thing: no fault of its own, but the teacher should
    look."""
    ours = "\n".join(text_of(cell) for cell in assignment.cells if cell["cell_type"] == "code")
    found = {name for source in sources for name in imported(source)} - imported(ours)
    finished = ("minildm", "diffusers", "transformers")
    borrowed = sorted(name for name in found if name.partition(".")[0] in finished)
    return [f"imports what it was to write? {', '.join(borrowed)[:200]}"] if borrowed else []


def imported(source: str) -> set[str]:
    """The dotted names that code imports; nothing for code that is not plain Python."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {
        f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
