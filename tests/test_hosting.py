"""What a host of the project reads: the setting that says where it is, the workflows, the checks
before a commit."""

import re
import runpy
import shutil
import subprocess
from pathlib import Path

import hosting
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
HERE = "somebody/a.course"


def text_of(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def recipe(target: str) -> list[str]:
    """A target's commands, as make runs them."""
    lines = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[1].splitlines()
    return [line.strip().replace("$(PY)", ".venv/bin/python") for line in lines]


# ---------------------------------------------------------------------------------- the address


@pytest.mark.parametrize("file", hosting.FILES)
def test_the_files_say_the_address_that_the_setting_says(file):
    assert text_of(file) == hosting.with_address(file, text_of(file), hosting.repository())


@pytest.mark.parametrize("file", hosting.FILES)
def test_an_address_is_put_in_and_taken_out_again(file):
    without = hosting.with_address(file, text_of(file), "")
    named = hosting.with_address(file, without, HERE)
    assert f"https://github.com/{HERE}" in named
    assert hosting.with_address(file, named, HERE) == named
    assert hosting.with_address(file, named, "") == without
    moved = hosting.with_address(file, named, "other/place")
    assert HERE not in moved and "other/place" in moved


def test_the_address_brings_badges_clone_contact_and_citation_and_still_fits_the_screen():
    readme, security, citation = (
        hosting.with_address(file, text_of(file), HERE) for file in hosting.FILES
    )
    assert "actions/workflows/tests.yml/badge.svg" in readme
    assert "https://somebody.github.io/a.course/" in readme
    assert f"    git clone https://github.com/{HERE} && cd a.course\n    make lab" in readme
    assert len(readme.splitlines()) <= 50
    assert f"<https://github.com/{HERE}/security/advisories/new>" in security
    assert yaml.safe_load(citation)["repository-code"] == f"https://github.com/{HERE}"
    assert yaml.safe_load(citation)["url"] == "https://somebody.github.io/a.course/"


def test_without_an_address_none_is_invented():
    """No file that git has names a place where the project would be."""
    if hosting.repository():
        pytest.skip("the project has an address")
    for file in hosting.FILES:
        assert "github.com" not in text_of(file) and "github.io" not in text_of(file)
    files = [path for ending in ("py", "md", "yml") for path in ROOT.glob(f"[!._]*/**/*.{ending}")]
    ours = [path for path in files if path.relative_to(ROOT).parts[0] != "runs"]
    files = [path for path in ours if path != Path(__file__)]
    assert len(files) > 100
    assert [path for path in files if "minildm/minildm" in path.read_text(encoding="utf-8")] == []


def test_the_books_pages_can_be_edited_where_there_is_an_address(monkeypatch):
    assert hosting.theme_options("") == {}
    options = hosting.theme_options(HERE)
    assert options["repository_url"] == f"https://github.com/{HERE}"
    assert options["use_edit_page_button"] and options["repository_branch"] == "main"
    assert hosting.fetch("") == "fetch the repository"
    assert hosting.fetch(HERE) == f"type `git clone https://github.com/{HERE}`"


@pytest.mark.parametrize("wrong", ["somebody", "https://github.com/somebody/a", "a/b/c"])
def test_a_setting_that_is_no_repository_is_refused(tmp_path, monkeypatch, wrong):
    (tmp_path / "book.yml").write_text(f"meta: {{repository: '{wrong}'}}")
    monkeypatch.setattr(hosting, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="expected OWNER/NAME or nothing"):
        hosting.repository()


def test_the_command_writes_the_files(tmp_path, monkeypatch, capsys):
    for file in hosting.FILES:
        (tmp_path / file).write_text(text_of(file), encoding="utf-8")
    (tmp_path / "book.yml").write_text(f"meta: {{repository: {HERE}}}")
    monkeypatch.setattr(hosting, "ROOT", tmp_path)
    hosting.main()
    assert HERE in capsys.readouterr().out
    for file in hosting.FILES:
        assert HERE in (tmp_path / file).read_text(encoding="utf-8")


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
@pytest.mark.parametrize("line", [f'"{HERE}"', f"'{HERE}'", HERE, f"{HERE} # ours", '""', "# none"])
def test_make_reads_the_setting_as_yaml_does(tmp_path, line):
    """For the badges of the students' notebooks."""
    setting = f"meta:\n  repository: {line}\n  minutes: {{}}\n"
    (tmp_path / "book.yml").write_text(setting, encoding="utf-8")
    command = ["make", "-s", "-f", "-", "-C", str(tmp_path), "told"]
    rule = MAKEFILE + "\ntold:\n\t@echo '[$(REPOSITORY)]'\n"
    told = subprocess.run(command, input=rule, capture_output=True, text=True).stdout
    assert told == f"[{yaml.safe_load(setting)['meta']['repository'] or ''}]\n"


# -------------------------------------------------------------------------------- the workflows


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_says_that_it_is_untried_and_calls_what_there_is(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Untried: nobody hosts the project yet.") or hosting.repository()
    assert len(text.splitlines()) <= 70
    targets = re.findall(r"run: make ([\w./-]+)", text)
    known = re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE) + [".venv/.installed"]
    assert targets and set(targets) <= set(known)
    ignored = re.findall(r"--ignore(?:-glob)?=(\S+)", text)
    assert [pattern for pattern in ignored if not list(ROOT.glob(pattern))] == []


def test_the_tests_run_on_three_systems_and_on_every_python_that_is_allowed():
    jobs = yaml.safe_load(text_of(".github/workflows/tests.yml"))["jobs"]
    matrix = jobs["make"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest"]
    assert jobs["windows"]["runs-on"] == "windows-latest"
    versions = ["3.11", "3.12", "3.13"]
    assert matrix["python"] == jobs["windows"]["strategy"]["matrix"]["python"] == versions
    assert 'requires-python = ">=3.11,<3.14"' in text_of("pyproject.toml")


def test_the_checks_before_a_commit_are_those_of_make_lint():
    hooks = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    assert [hook["repo"] for hook in hooks] == ["local"]
    entries = [hook["entry"] for hook in hooks[0]["hooks"]]
    assert {hook["language"] for hook in hooks[0]["hooks"]} == {"system"}
    commands = recipe("lint")
    assert len(commands) == len(entries) >= 6
    for command, entry in zip(commands, entries, strict=True):
        files = command.removeprefix(entry)  # the hook is handed the files, make lists them
        assert command.startswith(entry) and (not files or list(ROOT.glob(files.strip())))


def test_the_book_takes_its_links_from_the_setting():
    source = text_of("docs/conf.py")
    assert "theme_options(repository())" in source and "fetch(repository())" in source
    assert callable(runpy.run_path(str(ROOT / "docs" / "hosting.py"))["repository"])
