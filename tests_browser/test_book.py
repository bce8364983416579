"""The book as it lies in _build/html (`make book`): every page works, by itself, in Chromium, for
everybody."""

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
# axe takes long over code, whose colours are those of one style everywhere
MUCH_CODE = "notebooks/04_unet"
# What a widget shows: its pictures, not its labels, which a slider changes in any case.
PICTURES = """(widget) => {
    const shown = [...widget.querySelectorAll("img, canvas, svg, [role=img]")];
    return JSON.stringify(shown.map((picture) => picture.toDataURL
        ? picture.toDataURL() : [picture.src, picture.innerHTML, picture.style.cssText]));
}"""

pages = pytest.mark.parametrize("name", PAGES)
CHAPTERS = [name for name in PAGES if name.startswith("notebooks/")]
chapters = pytest.mark.parametrize("name", CHAPTERS)


@pytest.fixture(scope="session")
def address():
    if not (HTML / "search.html").is_file():
        pytest.fail("there is no book in _build/html: run `make book` first")
    with served(HTML) as address:
        yield address


@pytest.fixture
def visit(chromium, address):
    """Opens a page of the book, waits for its formulas and widgets, and gives it with all that went
    wrong."""
    contexts = []

    def open(name, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.on(
            "request",
            lambda r: (
                None if r.url.startswith((address, "data:", "blob:")) else wrong.append(r.url)
            ),
        )
        page.on("requestfailed", lambda r: wrong.append(f"{r.url}: {r.failure}"))
        page.on(
            "response", lambda r: wrong.append(f"{r.url}: {r.status}") if r.status >= 400 else None
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{address}/{name}.html", wait_until="load")
        page.wait_for_function(
            "!document.querySelector('script[src*=mathjax]') || window.MathJax?.startup?.promise"
        )
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
        const code = "pre, code, script, mjx-container, .highlight";
        copy.querySelectorAll(code).forEach((part) => part.remove());
        return copy.textContent; }"""
    )
    assert not re.search(r"\$\$|\\(frac|sqrt|alpha|beta|sigma|varepsilon|mathcal|mathbb)\b", text)


def clicked(widget):
    """Does a click change a picture?"""
    before = widget.evaluate(PICTURES)
    for target in widget.locator("svg, canvas, button").all():
        if target.is_visible():
            box = target.bounding_box()
            target.click(position={"x": 0.7 * box["width"], "y": 0.3 * box["height"]})
            widget.page.wait_for_timeout(150)
            if widget.evaluate(PICTURES) != before:
                return True
    return False


@chapters
def test_every_widget_changes_its_picture_without_a_kernel(visit, name):
    page, wrong = visit(name)
    widgets = page.locator("main .minildm-widget:has(.minildm)")
    source = (ROOT / f"{name}.ipynb").read_text(encoding="utf-8")
    assert (widgets.count() > 0) == ("from minildm.widgets import" in source)
    for i in range(widgets.count()):
        widget = widgets.nth(i)
        moved = widget.evaluate(
            """async (widget, seen) => {
                const pictures = () => eval(seen)(widget);
                const tell = (input) => ["input", "change"].forEach((event) =>
                    input.dispatchEvent(new Event(event, { bubbles: true })));
                const settle = () => new Promise((done) => setTimeout(done, 150));
                await settle();
                const before = pictures();
                for (const range of widget.querySelectorAll("input[type=range]")) {
                    const middle = (Number(range.min) + Number(range.max)) / 2;
                    range.value = Number(range.value) < middle ? range.max : range.min;
                    tell(range);
                    await settle();
                    if (pictures() !== before) return true;
                }
                for (const choice of widget.querySelectorAll("select")) {
                    choice.selectedIndex = (choice.selectedIndex + 1) % choice.options.length;
                    tell(choice);
                    await settle();
                    if (pictures() !== before) return true;
                }
                return false;
            }""",
            PICTURES,
        )
        assert moved or clicked(widget), widget.inner_text()[:200]
    assert wrong == []


@pages
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(visit, name, scheme):
    page, _ = visit(name, color_scheme=scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    page.evaluate(AXE)
    skip = [] if name == MUCH_CODE else [[".highlight"]]
    found = page.evaluate("(skip) => axe.run({ include: [['html']], exclude: skip })", skip)
    assert "color-contrast" in [rule["id"] for rule in found["passes"]]  # axe has looked
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


@chapters
def test_on_a_phone_no_control_of_a_widget_lies_over_another(visit, name):
    page, _ = visit(name, viewport={"width": 360, "height": 740})
    over = page.eval_on_selector_all(
        "main .minildm",
        """(all) => all.flatMap((widget) => {
            const kinds = "input, select, button, output, img, canvas, svg, [role=img]";
            const parts = [...widget.querySelectorAll(kinds)];
            const shown = parts.filter((part) => part.checkVisibility()), over = [];
            const edge = widget.getBoundingClientRect().right;
            for (const a of shown) {
                const p = a.getBoundingClientRect();
                if (p.right > edge + 1) over.push(a.outerHTML.slice(0, 80));
                for (const b of shown.slice(shown.indexOf(a) + 1)) {
                    const q = b.getBoundingClientRect();
                    const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
                    const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
                    if (!a.contains(b) && across > 1 && down > 1)
                        over.push(a.outerHTML.slice(0, 80));
                }
            }
            return over; })""",
    )
    assert over == []


@pages
def test_every_picture_says_what_it_shows(visit, name):
    page, _ = visit(name)
    said_of = "all => all.filter((i) => !i.hidden).map((i) => [i.alt.trim(), i.src])"
    shown = page.eval_on_selector_all("main img", said_of)
    # where nothing is said, Sphinx says the file's name
    silent = [source for said, source in shown if not said or source.endswith(said)]
    assert silent == []


@chapters
def test_every_picture_and_widget_of_a_chapter_is_a_numbered_figure(visit, name):
    page, _ = visit(name)
    # others are progress bars
    shows = ".cell_output img, .cell_output .minildm-widget:has(input, select, canvas, svg)"
    bare = page.eval_on_selector_all(
        shows, "all => all.filter((i) => !i.closest('figure')).map((i) => i.outerHTML)"
    )
    assert bare == []
    empty = "all => all.filter((i) => !i.querySelector('img, .minildm')).map((i) => i.innerText)"
    assert page.eval_on_selector_all("main .cell_output figure:has(.caption-number)", empty) == []
    numbers = page.locator("main .caption-number").all_inner_texts()
    chapter = int(name.split("/")[1][:2])
    assert [number.strip() for number in numbers] == [
        f"Figure {chapter}.{n}" for n in range(1, len(numbers) + 1)
    ]
    equations = page.eval_on_selector_all(
        "main .eqno", "all => all.map((e) => e.firstChild.textContent)"
    )
    assert equations == [f"({chapter}.{n})" for n in range(1, len(equations) + 1)]


@pytest.mark.parametrize("name", [*CHAPTERS, "docs/notation"])
def test_prose_names_figures_and_equations_by_their_numbers_and_leads_to_them(visit, name):
    page, _ = visit(name)
    named = page.locator(
        "main a.reference", has_text=re.compile(r"^([Ff]igure )?\(?(\d+|[A-Z])\.\d+\)?$")
    )
    assert named.count() > 0
    text = page.locator("main").inner_text()
    assert (
        "cell-id" not in page.locator("main").inner_html()
        and "{numref}" not in text
        and "{eq}" not in text
    )

    # some are folded
    links = named.evaluate_all("all => all.map((a) => [a.textContent.trim(), a.href])")
    said = """async (address) => { const { hash } = new URL(address);
        const text = await (await fetch(address)).text();
        const page = new DOMParser().parseFromString(text, "text/html");
        const place = page.getElementById(decodeURIComponent(hash.slice(1)));
        return place?.querySelector(".caption-number, .eqno")?.firstChild.textContent.trim(); }"""
    assert [text.lower() for text, _ in links] == [
        str(page.evaluate(said, href)).lower() for _, href in links
    ]


def test_the_pages_that_stand_in_no_table_of_contents_work_too(visit, address):
    """The index, the listings of the code that the package's pages link to: all but those that
    other tests open."""
    others = [str(file.relative_to(HTML).with_suffix("")) for file in sorted(HTML.rglob("*.html"))]
    others = [name for name in others if name not in (*PAGES, "index") and "_static" not in name]
    assert len(others) > 20
    page, wrong = visit(others[0])
    for name in others:
        page.goto(f"{address}/{name}.html", wait_until="load")
        assert page.locator("h1").count() > 0, name
    page.goto(f"{address}/index.html")
    # a reader who opens the folder gets the front page
    page.wait_for_url(f"{address}/{BOOK['root']}.html")
    assert wrong == []


def test_a_word_is_found(visit):
    page, wrong = visit("search")
    page.goto(page.url + "?q=autoencoder")
    # one after another
    page.wait_for_function("document.querySelectorAll('#search-results li a').length > 3")
    assert wrong == []


def test_the_front_page_draws_what_is_typed(visit):
    page, wrong = visit(BOOK["root"])
    prompt = page.get_by_label("prompt", exact=True)
    prompt.fill("the number five")
    prompt.press("Enter")
    page.get_by_role("status").filter(has_text=" steps in ").wait_for(timeout=60_000)
    drawn = page.locator("#minildm-draw canvas").last.evaluate(
        """(c) => {
        const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
        return [...data].filter((_, i) => i % 4 === 0); }"""
    )
    # test_draw.py compares with Python's
    assert len(drawn) == 32 * 32 and min(drawn) < 20 and max(drawn) > 235
    assert wrong == []


def test_the_figures_move_in_a_folder_that_nobody_serves(chromium):
    page = chromium.new_page()
    page.goto((HTML / "notebooks" / "02_forward_diffusion.html").as_uri())
    page.wait_for_function("document.documentElement.dataset.widgets === 'ready'")
    widget = page.locator("main .minildm-widget:has(.minildm)").first
    before = widget.evaluate(PICTURES)
    widget.locator("input[type=range]").first.press("End")
    assert widget.evaluate(PICTURES) != before
    page.close()
