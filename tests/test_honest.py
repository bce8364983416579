"""Right answers in other words: every assignment solved from its text alone, in three styles, keeps
all of its points; what students see passes, too.

`tests/honest/ASSIGNMENT_STYLE.py` holds the cells: loops over numbers (`loops`), einsum and float64
(`float64`), helpers and keyword calls (`helpers`).
"""

import re
from pathlib import Path
from types import ModuleType

import pytest
from test_assignments import KEYS, NAMES, asked, assignment, marks, names_of_setup, step

from minildm.grading.sandbox.runner import perform

STYLES = "loops", "float64", "helpers"
HONEST = Path(__file__).parent / "honest"


def cells_of(path: Path) -> dict[str, str]:
    """The file's cells: `# %% NAME` begins one."""
    _, *parts = re.split(r"^# %% ([\w-]+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_assignment_is_solved_in_three_styles():
    found = {path.stem for path in HONEST.glob("*.py")}
    assert found == {f"{name}_{style}" for name in NAMES for style in STYLES}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", NAMES)
def test_an_honest_solution_passes_what_it_sees_and_loses_no_point(name, style):
    key = KEYS[STYLES.index(style) % 2]
    own, module = assignment(name, key), ModuleType("submission")
    known = names_of_setup(name, key).items()
    vars(module).update({word: value for word, value in known if not word.startswith("__")})
    cells = cells_of(HONEST / f"{name}_{style}.py")
    assert list(cells) == own.solutions()
    for source in [*cells.values(), *own.tests().values()]:
        assert perform(step(cell=source), module)["error"] is None, source
    replies = {part.name: asked(part, own, module) for part in own.parts}
    lost = {
        part: each.message for part, each in marks(name, key, replies).items() if not each.points
    }
    assert not lost
