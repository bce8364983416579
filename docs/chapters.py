"""The table of the chapters, for the book's front page and chapter 00: part, title, question, and
the minutes that book.yml says, if it says any.

    python docs/chapters.py      # writes it into chapter 00
"""

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
START, CELL = ROOT / "notebooks" / "00_start_here.ipynb", "start-24"
TABLE = re.compile(r"(?m)^\| +\|.*\n(?:\|.*\n)+")


def title(page: str) -> str:
    """A chapter's first heading, without its number."""
    cells = json.loads((ROOT / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]
    return "".join(cells[0]["source"]).splitlines()[0].split("·", 1)[1].strip()


def table(folder: str = "") -> str:
    """A Markdown table with a link to every chapter, which lies in `folder` as the page sees it."""
    book = yaml.safe_load((ROOT / "book.yml").read_text(encoding="utf-8"))
    minutes = book["meta"]["minutes"]
    columns = ["", "chapter", "minutes"] if minutes else ["", "chapter"]
    rows = [columns, ["---"] * len(columns)]
    for part in book["parts"]:
        chapters = [page["file"] for page in part["chapters"]]
        chapters = [page for page in chapters if page.startswith("notebooks/")]
        if chapters:
            rows.append(["", f"**{part['caption']}**", ""])
        for page in chapters:
            name, _, question = title(page).partition(": ")
            file = page.removeprefix("notebooks/")
            link = f"[{name}]({folder}{file}.ipynb)" + (f": {question}" if question else "")
            rows.append([file[:2], link, str(minutes.get(file, ""))])
    return "".join(f"| {' | '.join(row[: len(columns)])} |\n" for row in rows)


def main() -> None:
    notebook = json.loads(START.read_text(encoding="utf-8"))
    cell = next(cell for cell in notebook["cells"] if cell["id"] == CELL)
    text = TABLE.sub(lambda _: table(), "".join(cell["source"]))
    cell["source"] = text.splitlines(keepends=True)
    START.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
