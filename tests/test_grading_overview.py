"""The class at a glance: what its page says."""

import json
import re

import pytest
import submissions
from submissions import result

from minildm.grading import Mark, export, load_assignments


@pytest.fixture
def page(tmp_path):
    """Four students: nobody has the second part, two for one reason, whatever its numbers."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))

    def graded(first: float, message: str):
        marks = [
            Mark("test-scale", "Scale", first, 3, "right" if first == 3 else "half of it"),
            Mark("test-total", "Total", 0, 5, message),
        ]
        return result(first, marks=marks)

    results = {
        ("ada", "tiny"): graded(3, "total: 40% are wrong, by up to 0.31"),
        ("<bo>", "tiny"): graded(1.5, "total: 60% are wrong, by up to 2e-05"),
        ("cy", "tiny"): graded(3, "it returned nothing")._replace(late=True),
        ("di", "tiny"): result(0, score=None, marks=[], status="not graded: look at it"),
    }
    export(results, load_assignments(tmp_path / "source", "key"), tmp_path, [])
    return (tmp_path / "overview-tiny.html").read_text(encoding="utf-8")


def test_a_row_for_each_student_and_a_column_for_each_part(page):
    head = re.findall(r"<th>(.*?)</th>", page)
    assert head == ["Student", "Scale", "Total", "Why?", "Total"]
    body = page.split("<tbody>")[1].split("</tbody>")[0]
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in body.split("</tr>") if row]
    assert [row[0] for row in rows] == ["&lt;bo&gt;", "ada", "cy", "di"]
    assert [row[1:3] for row in rows] == [["1.5", "0"], ["3", "0"], ["3", "0"], ["–", "–"]]
    kinds = re.findall(r'<td class="(\w+)"', body)
    assert (
        kinds
        == ["partly", "none", "open", "full", "none", "open"] + ["full", "none"] + ["open"] * 4
    )


def test_success_is_of_those_who_were_graded(page):
    assert "<td>2 of 3<meter" in page and "<td>0 of 3<meter" in page
    assert "4 students, 0 with a grade; 3 written answers to mark; 1 late." in page


def test_what_nobody_passed_and_the_most_frequent_wrong_answer(page):
    assert "<h2>Nobody passed this</h2><ul><li>Total</li></ul>" in page
    wrong = page.split("The most frequent wrong answers")[1]
    assert wrong.index("2 × total: 60% are wrong") < wrong.index("1 × it returned nothing")
    assert "&lt;bo&gt;, ada" in wrong and "1 × half of it" in wrong


def test_it_asks_for_nothing_and_no_student_writes_into_it(page):
    assert not re.search(r"<script|src=|href=|url\(|@import|http", page)
    assert "<bo>" not in page
