"""The chapters in JupyterLab, as a reader has them: all cells run, and a slider that is moved
changes its figure."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Chapter, a cell with a widget, and what that is: one of ipywidgets', which asks the kernel, or one
# of ours.
CHAPTERS = [
    ("00_start_here", "start-03", ".minildm"),
    ("02_forward_diffusion", "cell-19", ".widget-interact"),
    ("03_learning_to_denoise", "denoise-31", ".minildm"),
]
# In the page: runs cells, and does not wait for ever.
RUN = """(cells) => Promise.race([
    window.jupyterapp.commands.execute(`notebook:run-${cells}`),
    new Promise((_, fail) => setTimeout(
        () => fail(new Error(`run-${cells}: not done after 15 minutes`)), 900_000))])"""
# The errors among the outputs, how many cells were left out, and where a cell stands.
ERRORS = """() => window.jupyterapp.shell.currentWidget.content.widgets.flatMap((cell) => {
    const outputs = cell.model.type === "code" ? cell.model.outputs.toJSON() : [];
    const errors = outputs.filter((output) => output.output_type === "error");
    return errors.map((error) => `${error.ename}: ${error.evalue}`); })"""
LEFT_OUT = """() => window.jupyterapp.shell.currentWidget.content.widgets.filter(({ model }) =>
    model.type === "code" && model.sharedModel.source.trim() && !model.executionCount).length"""
SHOW = """async (i) => { const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = i; await notebook.scrollToItem(i, "start"); }"""
PLACE = """(id) => window.jupyterapp.shell.currentWidget.content.widgets.findIndex(
    ({ model }) => model.id === id)"""
# The pictures of a widget, read in one go: a kernel that answers takes the old one away before it
# puts up the new one.
PICTURES = """(w) => [...w.querySelectorAll("img, canvas, svg, [role=img]")].map((picture) => {
    const drawn = () => picture.toDataURL?.() ?? picture.innerHTML + picture.style.cssText;
    return picture.src || drawn(); })"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the course, at test pace: its address."""
    folder = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    for shared in ("data", "benchmarks"):
        (folder / shared).symlink_to(ROOT / shared)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--expose-app-in-browser"]
    command += ["--allow-root", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += ["--IdentityProvider.token="]
    env = {**os.environ, "MINILDM_PACE": "test", "JUPYTER_CONFIG_DIR": str(folder / "config")}
    env |= {f"JUPYTERLAB_{kind}_DIR": str(folder / kind) for kind in ("SETTINGS", "WORKSPACES")}
    with open(folder / "lab.log", "wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api")
                break
            except OSError:
                assert server.poll() is None, (folder / "lab.log").read_text()
                time.sleep(0.5)
        else:
            pytest.fail((folder / "lab.log").read_text())
        yield address
    finally:
        server.terminate()
        server.wait(60)


def opened(chromium, lab, chapter):
    """A chapter in JupyterLab, its kernel ready."""
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(120_000)
    page.goto(f"{lab}/lab/tree/notebooks/{chapter}.ipynb?reset")
    page.wait_for_function(
        "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
    )
    return page


@pytest.mark.parametrize(
    ("chapter", "cell", "kind"), CHAPTERS, ids=[chapter for chapter, *_ in CHAPTERS]
)
def test_a_chapter_runs_and_its_slider_changes_the_figure(chromium, lab, chapter, cell, kind):
    page = opened(chromium, lab, chapter)
    page.evaluate(RUN, "all-cells")
    assert page.evaluate(ERRORS) == []
    assert page.evaluate(LEFT_OUT) == 0

    page.evaluate(SHOW, page.evaluate(PLACE, cell))
    widget = page.locator(f".jp-NotebookPanel .jp-Cell.jp-mod-active {kind}").first
    widget.locator("img, canvas, svg, [role=img]").first.wait_for()
    slider = widget.locator("[role=slider], input[type=range]").first
    slider.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)  # for what is still being drawn
    before = widget.evaluate(PICTURES)
    slider.focus()
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    for _ in range(60):
        page.wait_for_timeout(500)
        after = widget.evaluate(PICTURES)
        if len(after) == len(before) and after != before:
            break
    else:
        pytest.fail(f"{chapter}: nothing changed when its slider was moved")
    page.close()


def test_a_prompt_that_is_typed_is_drawn_by_the_kernel(chromium, lab):
    page = opened(chromium, lab, "00_start_here")
    cell = page.evaluate(PLACE, "start-03")
    page.evaluate(SHOW, cell + 1)
    page.evaluate(RUN, "all-above")
    assert page.evaluate(ERRORS) == []
    page.evaluate(SHOW, cell)
    widget = page.locator(".jp-NotebookPanel .jp-Cell.jp-mod-active .minildm")
    prompt = widget.get_by_label("your own prompt")
    prompt.wait_for()  # the field shows itself once the kernel has answered
    # and none for a negative prompt: the chapter has none
    assert widget.locator("input[type=text]").count() == 1
    picture = widget.locator(".picture img")
    assert picture.is_hidden()
    prompt.fill("the number 7")
    prompt.press("Enter")
    picture.wait_for()
    first = picture.get_attribute("src")
    assert (
        widget.locator("[role=img]").get_attribute("aria-label")
        == "prompt the number 7, guidance 1.75, seed 0"
    )
    widget.get_by_role("slider", name="seed").press("ArrowRight")  # the same prompt, other noise
    page.wait_for_function(
        "([image, first]) => image.src !== first", arg=[picture.element_handle(), first]
    )
    page.close()


@pytest.mark.parametrize(
    ("chapter", "cell", "leads_to"),
    [
        ("02_forward_diffusion", "cell-45", ("02_forward_diffusion", "cell-07")),
        ("01_images_and_noise", "cell-34", ("00_start_here", "start-17")),
    ],
    ids=["in the chapter", "in another"],
)
def test_a_link_to_a_figure_goes_to_the_cell_that_draws_it(chromium, lab, chapter, cell, leads_to):
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(120_000)
    page.goto(f"{lab}/lab/tree/notebooks/{chapter}.ipynb?reset")
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.content?.widgets?.length > 20")
    page.evaluate(SHOW, page.evaluate(PLACE, cell))
    page.locator(".jp-Cell.jp-mod-active a", has_text="figure").first.click()
    page.wait_for_function(
        """([chapter, cell]) => {
        const { context, content } = window.jupyterapp.shell.currentWidget;
        const found = content?.widgets?.find(({ model }) => model.id === cell);
        if (!context.path.includes(chapter) || !found) return false;
        const { top, bottom } = found.node.getBoundingClientRect();
        return found.isAttached && top < window.innerHeight && bottom > 0; }""",
        arg=list(leads_to),
    )
    page.close()
