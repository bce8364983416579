"""The book as it lies in _build/html (`make book`): every page works, by itself, in Chromium, for everybody."""

import re
from pathlib import Path

import axe_playwright_python
import pytest
import yaml
from conftest import served

ROOT = Path(__file__).resolve().parent.parent
BOOK = yaml.safe_load((ROOT / "book.yml").read_text(encoding="utf-8"))
PAGES = [BOOK["root"], *(page["file"] for part in BOOK["parts"] for page in part["chapters"])]
HTML = ROOT / "_build" / "html"
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
# What the theme and the highlighter bring along and a chapter cannot change.
NOT_OURS = [".sd-card", ".highlight", ".bd-header", ".bd-sidebar-primary", ".bd-sidebar-secondary"]

pages = pytest.mark.parametrize("name", PAGES)
chapters = pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("notebooks/")])


@pytest.fixture(scope="session")
def address():
    if not (HTML / "search.html").is_file():
        pytest.fail("there is no book in _build/html: run `make book` first")
    with served(HTML) as address:
        yield address


@pytest.fixture
def visit(chromium, address):
    """Opens a page of the book, waits for its formulas and widgets, and gives it with all that went wrong."""
    contexts = []

    def open(name, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else wrong.append(r.url))
        page.on("requestfailed", lambda r: wrong.append(f"{r.url}: {r.failure}"))
        page.on("response", lambda r: wrong.append(f"{r.url}: {r.status}") if r.status >= 400 else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{address}/{name}.html", wait_until="load")
        page.wait_for_function("!document.querySelector('script[src*=mathjax]') || window.MathJax?.startup?.promise")
        page.evaluate("async () => { await window.MathJax?.startup?.promise; }")
        if page.locator("script[type='application/vnd.jupyter.widget-view+json']").count():
            page.wait_for_function("document.documentElement.dataset.widgets === 'ready'")
        return page, wrong

    yield open
    for context in contexts:
        context.close()


@pages
def test_nothing_fails_and_no_request_leaves_the_book(visit, name):
    page, wrong = visit(name)
    assert page.locator(".bd-article h1").count() == 1
    assert wrong == []


@pages
def test_formulas_are_set_and_no_raw_latex_is_left(visit, name):
    page, _ = visit(name)
    text = page.evaluate(
        """() => { const copy = document.querySelector("main").cloneNode(true);
        copy.querySelectorAll("pre, code, script, mjx-container, .highlight").forEach((part) => part.remove());
        return copy.textContent; }"""
    )
    assert not re.search(r"\$\$|\\(frac|sqrt|alpha|beta|sigma|varepsilon|mathcal|mathbb)\b", text)


def clicked(widget):
    """Does a click change what is to be clicked or what lies beside it?"""
    seen = "(widget) => widget.innerHTML + [...widget.querySelectorAll('canvas')].map((c) => c.toDataURL())"
    before = widget.evaluate(seen)
    for target in widget.locator("svg, canvas, button").all():
        if target.is_visible():
            box = target.bounding_box()
            target.click(position={"x": 0.7 * box["width"], "y": 0.3 * box["height"]})
            widget.page.wait_for_timeout(150)
            if widget.evaluate(seen) != before:
                return True
    return False


@pages
def test_every_widget_changes_its_picture_without_a_kernel(visit, name):
    page, wrong = visit(name)
    widgets = page.locator(".minildm-widget:has(input, select, canvas, svg)")
    for i in range(widgets.count()):
        widget = widgets.nth(i)
        moved = widget.evaluate(
            """async (widget) => {
                const seen = () => widget.innerHTML + [...widget.querySelectorAll("canvas")].map((c) => c.toDataURL());
                const settle = () => new Promise((done) => setTimeout(done, 150));
                await settle();
                const before = seen();
                for (const range of widget.querySelectorAll("input[type=range]")) {
                    const middle = (Number(range.min) + Number(range.max)) / 2;
                    range.value = Number(range.value) < middle ? range.max : range.min;
                    for (const event of ["input", "change"]) range.dispatchEvent(new Event(event, { bubbles: true }));
                    await settle();
                    if (seen() !== before) return true;
                }
                for (const choice of widget.querySelectorAll("select")) {
                    choice.selectedIndex = (choice.selectedIndex + 1) % choice.options.length;
                    choice.dispatchEvent(new Event("change", { bubbles: true }));
                    await settle();
                    if (seen() !== before) return true;
                }
                return false;
            }"""
        )
        assert moved or clicked(widget), widget.inner_text()[:200]
    assert wrong == []


@pages
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(visit, name, scheme):
    page, _ = visit(name, color_scheme=scheme)
    page.evaluate(AXE)
    found = page.evaluate("(skip) => axe.run({ exclude: skip.map((one) => [one]) })", NOT_OURS)
    serious = [
        f"{fault['id']}: {node['html'][:160]}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"][:3]
    ]
    assert serious == []


@pages
def test_a_phone_shows_the_page_without_scrolling_sideways(visit, name):
    page, _ = visit(name, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 361


@pages
def test_every_picture_says_what_it_shows(visit, name):
    page, _ = visit(name)
    said_of = "all => all.filter((i) => !i.hidden).map((i) => [i.alt.trim(), i.src])"
    shown = page.eval_on_selector_all("main img", said_of)
    silent = [source for said, source in shown if not said or source.endswith(said)]  # Sphinx says the file's name
    assert silent == []


@chapters
def test_every_picture_and_widget_of_a_chapter_is_a_numbered_figure(visit, name):
    page, _ = visit(name)
    shows = ".cell_output img, .cell_output .minildm-widget:has(input, select, canvas, svg)"  # others are progress bars
    bare = page.eval_on_selector_all(shows, "all => all.filter((i) => !i.closest('figure')).map((i) => i.outerHTML)")
    assert bare == []
    numbers = page.locator("main .caption-number").all_inner_texts()
    chapter = int(name.split("/")[1][:2])
    assert [number.strip() for number in numbers] == [f"Figure {chapter}.{n}" for n in range(1, len(numbers) + 1)]
    equations = page.eval_on_selector_all("main .eqno", "all => all.map((e) => e.firstChild.textContent)")
    assert equations == [f"({chapter}.{n})" for n in range(1, len(equations) + 1)]


@chapters
def test_prose_names_figures_by_their_numbers(visit, name):
    page, _ = visit(name)
    named = page.locator("main a.reference", has_text=re.compile(r"^([Ff]igure )?\(?\d+\.\d+\)?$"))
    assert named.count() > 0
    text = page.locator("main").inner_text()
    assert "cell-id" not in page.locator("main").inner_html() and "{numref}" not in text and "{eq}" not in text


def test_a_word_is_found(visit):
    page, wrong = visit("search")
    page.goto(page.url + "?q=autoencoder")
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li").count() > 3 and wrong == []
