"""The class at a glance, written by the gradebook and opened: nothing is asked for, and on a narrow
screen the table moves, not the page."""

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import submissions

from minildm.grading import export, load_assignments


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("name", ["overview-tiny.html", "tiny/feedback/ada0.html"])
def test_a_page_asks_for_nothing_and_fits(chromium, tmp_path, name, width):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    results = {(f"ada{n}", "tiny"): submissions.result(3) for n in range(30)}
    results["a-name-that-has-no-place-to-break-anywhere-in-it" * 2, "tiny"] = submissions.result(0)
    export(results, load_assignments(tmp_path / "source", "key"), tmp_path, [])
    page = chromium.new_page(viewport={"width": width, "height": 800})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / name).as_uri())
    assert asked == [(tmp_path / name).as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if name.startswith("overview"):
        assert page.locator("tbody tr").count() == 31
        shown = page.locator("tbody tr").nth(3).locator("td").first
        assert shown.inner_text() == "ada10" and shown.is_visible()
        assert shown.bounding_box()["height"] < 50  # a name is not broken letter by letter
        colours = "(cells) => new Set(cells.map(c => getComputedStyle(c).backgroundColor)).size"
        assert page.locator("tbody td").evaluate_all(colours) >= 3
    else:
        assert "3 of 8 points" in page.locator(".total").inner_text()
    page.close()
