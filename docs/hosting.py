"""Where the project is hosted: the one setting, `meta: repository` in book.yml, and what is made of
it.

It is empty as long as nobody hosts the project, and then no address stands anywhere. When it says
OWNER/NAME, on GitHub, conf.py gives the book's pages their links, and

    python docs/hosting.py      (make address)

writes the addresses into the files that are read where they lie: README.md, SECURITY.md and
CITATION.cff. Run again after the setting is emptied, it takes them out.
"""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
FILES = ("README.md", "SECURITY.md", "CITATION.cff")

NO_CONTACT = "Tell whoever you have the project from, in private: it has no address of its own yet."
CONTACT = "Tell us in private, at <{url}/security/advisories/new>."


def repository() -> str:
    """OWNER/NAME as book.yml says it, or nothing."""
    book = yaml.safe_load((ROOT / "book.yml").read_text(encoding="utf-8"))
    name = book["meta"]["repository"]
    if name and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(
            f"book.yml, meta: repository: expected OWNER/NAME or nothing, got {name!r}"
        )
    return name


def url(name: str) -> str:
    """The repository's page."""
    return f"https://github.com/{name}"


def pages(name: str) -> str:
    """Where GitHub Pages shows the book."""
    owner, project = name.split("/")
    return f"https://{owner}.github.io/{project}/"


def theme_options(name: str) -> dict:
    """The book's buttons: to the repository, to report something about a page, to edit it."""
    if not name:
        return {}
    buttons = ("use_repository_button", "use_issues_button", "use_edit_page_button")
    return {"repository_url": url(name), "repository_branch": "main"} | dict.fromkeys(buttons, True)


def fetch(name: str) -> str:
    """What a reader types to have the course, or the same in words."""
    return f"type `git clone {url(name)}`" if name else "fetch the repository"


def with_address(file: str, text: str, name: str) -> str:
    """One of FILES with the addresses of the repository `name`, whatever it had; none without a
    name."""
    return {"README.md": readme, "SECURITY.md": security, "CITATION.cff": citation}[file](
        text, name
    )


def readme(text: str, name: str) -> str:
    """Badges under the title, and `git clone` before the first command."""
    text = re.sub(r"(?m)^\[!\[.*\n\n|^    git clone .*\n", "", text)
    if not name:
        return text
    tests = f"{url(name)}/actions/workflows/tests.yml"
    badges = f"[![tests]({tests}/badge.svg)]({tests}) [the book]({pages(name)})"
    text = re.sub(r"\A(# .*\n\n)", rf"\1{badges}\n\n", text)
    clone = f"    git clone {url(name)} && cd {name.split('/')[1]}\n"
    return text.replace("    make lab", f"{clone}    make lab", 1)


def security(text: str, name: str) -> str:
    """Where a hole is reported."""
    contact = CONTACT.format(url=url(name)) if name else NO_CONTACT
    return re.sub(r"(?m)^Tell .* in private.*$", contact, text)


def citation(text: str, name: str) -> str:
    """The addresses of the code and of the book."""
    text = re.sub(r"(?m)^(repository-code|url): .*\n", "", text)
    lines = f'repository-code: "{url(name)}"\nurl: "{pages(name)}"\n' if name else ""
    return re.sub(r"(?m)^(license: .*\n)", rf"\g<1>{lines}", text)


def main() -> None:
    name = repository()
    for file in FILES:
        path = ROOT / file
        text = path.read_text(encoding="utf-8")
        path.write_text(with_address(file, text, name), encoding="utf-8")
    print(f"The addresses are those of {name}." if name else "No address stands anywhere.")


if __name__ == "__main__":
    main()
