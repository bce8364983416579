"""adjustments.csv: applied where it can be seen, refused with row and column, never written."""

import json

import pytest
import submissions
from submissions import result

from minildm.grading import export, load_assignments, read_table
from minildm.grading.adjustments import read_adjustments

HEADER = "student,assignment,what,value,reason\n"


@pytest.fixture
def tiny(tmp_path):
    """Without its written question: a total is there at once."""
    (tmp_path / "source").mkdir()
    content = submissions.source_notebook()
    del content["cells"][-2:]
    (tmp_path / "source" / "tiny.ipynb").write_text(json.dumps(content))
    return load_assignments(tmp_path / "source", "key")


def totals(tiny, folder, text: str, results) -> dict[str, tuple[str, str]]:
    """Each student's total and what is said of it; the file stays as it was."""
    path = folder / "adjustments.csv"
    path.write_text(HEADER + text, encoding="utf-8")
    export({(who, "tiny"): each for who, each in results.items()}, tiny, folder, [])
    assert path.read_text(encoding="utf-8") == HEADER + text
    return {
        row["student"]: (row["total"], row["adjustments"])
        for row in read_table(folder / "grades.csv")
    }


DUE = "*,tiny,deadline,2026-10-12 23:59,\n*,*,penalty,10,a day\n"
LATE = "2026-10-14 08:00:00"
LOST = "less: 10 % for"


@pytest.mark.parametrize(
    ("rows", "graded", "total", "said"),
    [
        ("", result(8), "8", ""),
        ("ada,tiny,bonus,1.5,a mistake found\n", result(8), "9.5", "1.5 more (a mistake found)"),
        ("ada,*,bonus,-2,\n", result(8), "6", "2 less"),
        ("ada,tiny,bonus,-8,\n", result(3), "0", "8 less"),
        ("ada,tiny,override,5,on paper\n", result(8), "5", "set to 5 (on paper)"),
        ("ada,tiny,override,5,\n", result(0, score=None), "5", "set to 5"),
        ("ada,tiny,bonus,1,\n", result(0, score=None), "", "1 more"),
        (DUE, result(8, when="2026-10-12 23:59:00"), "8", ""),
        (DUE, result(8, when=LATE), "6.4", f"2 days late; 1.6 {LOST} each of 2 days (a day)"),
        (DUE, result(8), "8", ""),
        (DUE, result(8, late=True), "7.2", f"late, by the LMS's word; 0.8 {LOST} the day (a day)"),
        (
            DUE + "ada,tiny,extension,1,ill\n",
            result(8, when=LATE),
            "7.2",
            "given until 2026-10-13 23:59 (ill), a day late; 0.8 less: 10 % for the day (a day)",
        ),
        (
            DUE + "ada,tiny,extension,2026-10-14 09:00,\n",
            result(8, when=LATE),
            "8",
            "given until 2026-10-14 09:00",
        ),
        (
            "*,*,penalty,10,\nada,tiny,extension,3,ill\n",
            result(8, late=True),
            "8",
            "extended by 3 (ill); the LMS says late, but not when it came in: not counted",
        ),
        (DUE + "*,*,penalty,100,\n", result(8, when=LATE), "0", None),
        ("bo,tiny,bonus,1,\n", result(8), "8", ""),
    ],
)  # fmt: skip
def test_what_a_row_does_is_done_and_said(tiny, tmp_path, rows, graded, total, said):
    got = totals(tiny, tmp_path, rows, {"ada": graded})["ada"]
    assert got[0] == total and (said is None or got[1] == said)


def test_moodle_and_canvas_get_the_total_that_counts(tiny, tmp_path):
    totals(tiny, tmp_path, "Zoë_9_assignsubmission_file,tiny,bonus,1,\n".replace("ë", "e\u0308"), {
        "Zo\u00eb_9_assignsubmission_file": result(3)
    })  # fmt: skip
    (row,) = read_table(tmp_path / "moodle-tiny.csv")
    assert row["Grade"] == "4"
    assert read_table(tmp_path / "canvas.csv")[1]["Tiny"] == "4"


def test_a_group_has_what_one_of_them_handed_in(tiny, tmp_path):
    rows = "".join(f"{who},tiny,group,one,\n" for who in ("ada", "bo", "cy"))
    got = totals(tiny, tmp_path, rows + "bo,tiny,bonus,1,\n", {
        "ada": result(3),
        "bo": result(0, score=None, status="nothing handed in"),
        "di": result(8),
    })  # fmt: skip
    shared = "handed in by ada for the group"
    assert got == {
        "ada": ("3", ""),
        "bo": ("4", f"{shared}; 1 more"),
        "cy": ("3", shared),
        "di": ("8", ""),
    }


def test_a_group_that_has_handed_in_twice_is_asked(tiny, tmp_path):
    (tmp_path / "adjustments.csv").write_text(HEADER + "ada,tiny,group,one,\nbo,*,group,one,\n")
    both = {("ada", "tiny"): result(3), ("bo", "tiny"): result(8)}
    exported = export(both, tiny, tmp_path, [])
    assert exported.asked == ["ada and bo of the group one have each handed in tiny: keep one"]
    assert [row["total"] for row in read_table(tmp_path / "grades.csv")] == ["3", "8"]


def test_a_groups_answer_is_marked_once(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    tiny = load_assignments(tmp_path / "source", "key")
    (tmp_path / "adjustments.csv").write_text(HEADER + "ada,tiny,group,one,\nbo,tiny,group,one,\n")
    assert export({("ada", "tiny"): result(3)}, tiny, tmp_path, []).unmarked == 1
    text = (tmp_path / "written.csv").read_text(encoding="utf-8-sig")
    assert text.count("\nada,tiny,why,,2,") == 1 and "\nbo," not in text
    (tmp_path / "written.csv").write_text(text.replace("why,,2,", "why,1.5,2,"), encoding="utf-8")
    assert export({("ada", "tiny"): result(3)}, tiny, tmp_path, []).unmarked == 0
    assert [row["total"] for row in read_table(tmp_path / "grades.csv")] == ["4.5", "4.5"]


def test_who_is_nobody_here_is_named(tiny, tmp_path):
    (tmp_path / "adjustments.csv").write_text(HEADER + "eve,tiny,bonus,1,\n")
    exported = export({("ada", "tiny"): result(3)}, tiny, tmp_path, [])
    assert exported.asked == ["adjustments.csv: nobody here is called eve"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("ada,tiny,bonus,9,", "row 3, column value: expected a number from -8 to 8 for bonus"),
        ("ada,tiny,bonus,nan,", "column value: expected a number .* for bonus, got 'nan'"),
        ("ada,tiny,override,-1,", "column value: expected a number from 0 to 8 for override"),
        ("ada,tiny,override,,", "column value: expected a number from 0 to 8 for override, got ''"),
        ("ada,tiny,penalty,200%,", "column value: expected a number from 0 to 100 for penalty"),
        ("ada,tiny,deadline,tomorrow,", "expected a time like 2026-10-12 23:59 for deadline"),
        ("ada,tiny,deadline,2026-10-12,", "expected a time like 2026-10-12 23:59 for deadline"),
        ("ada,tiny,extension,soon,", "expected days, a number from 0 to 366, or a time like"),
        ("ada,tiny,group,,", "column value: expected a text for group, got ''"),
        ("ada,tiny,gift,1,", "column what: expected one of override, bonus, .*, got 'gift'"),
        ("ada,huge,bonus,1,", r"column assignment: expected \* or one of tiny, got 'huge'"),
        (",tiny,bonus,1,", r"column student: expected a student or \*, got nothing"),
        ("ada,tiny,bonus,1,why,more", "row 3: expected a heading above every column"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_row_and_column(tiny, tmp_path, row, words):
    (tmp_path / "adjustments.csv").write_text(f"{HEADER}ada,tiny,bonus,1,\n{row}\n")
    with pytest.raises(ValueError, match=words):
        export({("ada", "tiny"): result(3)}, tiny, tmp_path, [])
    assert not (tmp_path / "grades.csv").exists()


def test_a_spreadsheets_semicolons_and_commas_are_read(tmp_path):
    text = HEADER.replace(",", ";") + "ada;tiny;bonus;1,5;\nada;tiny;penalty;10 %;\n;;;;\n"
    (tmp_path / "adjustments.csv").write_text(text, encoding="utf-8-sig")
    bonus, penalty = read_adjustments(tmp_path, {"tiny": 8})
    assert (bonus.number, penalty.number) == (1.5, 10)
    assert read_adjustments(tmp_path / "elsewhere", {"tiny": 8}) == []
