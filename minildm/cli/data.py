"""`minildm data`: what there is to train on, of a data set by its name or in a folder of one's own
pictures."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from minildm.cli.app import TRAIN, app
from minildm.cli.options import Background, Caption, Fit, Size, Strict, check_file
from minildm.errors import at_once

if TYPE_CHECKING:
    from minildm.data.folder import Entry, PictureFolder
    from minildm.data.picture_cache import Decoded

    Entries = tuple[Entry, ...]

NAMED = 10  # so many files of a kind are named


@app.command(rich_help_panel=TRAIN)
def data(
    dataset: Annotated[
        str, Argument(help="mnist, fashion_mnist, cifar10, or a folder.", metavar="NAME|FOLDER")
    ],
    size: Size = 32,
    fit: Fit = "crop",
    background: Background = "white",
    caption: Caption = "a picture of {class}",
    strict: Strict = False,
    out: Annotated[
        Path | None,
        Option(help="A contact sheet of the folder as it is trained on, .png.", metavar="FILE"),
    ] = None,
) -> None:
    """Show what there is of a data set, and where; download what is missing.

    Of a folder of pictures (a sub-folder for each class, or metadata.jsonl or
    metadata.csv with file_name and text; train and test, or a tenth is held
    out): counts, sizes, captions, damaged files, copies, and test pictures that
    are trained on.
    """
    with at_once():
        from minildm.data import datasets

    if dataset in datasets.LOADERS:
        if out is not None:
            raise ValueError(f"expected a folder with --out, got the data set {dataset}")
        show_dataset(dataset)
    elif not Path(dataset).is_dir():
        names = ", ".join(datasets.LOADERS)
        raise ValueError(f"expected a data set of {names}, or a folder, got {dataset!r}")
    else:
        if out is not None:
            check_file(out, ".png")
        show_folder(Path(dataset), size, fit, background, caption, strict, out)


def show_dataset(dataset: str) -> None:
    """The pictures of a data set by its name, and where they lie."""
    from minildm.data import datasets

    sets = {"": datasets.LOADERS[dataset]}
    if dataset == "cifar10":
        sets = {" (subset)": datasets.cifar10, " (full)": partial(datasets.cifar10, full=True)}
    for name, load in sets.items():
        for split in ("train", "test"):
            images, _, classes = load(split)
            shape = "x".join(map(str, images.shape[1:]))
            what = f"{len(images):,} images {shape}, {len(classes)} classes"
            print(f"{dataset}{name} {split}: {what}")
    roots = [Path(os.environ.get("MINILDM_DATA") or os.devnull), Path.home() / ".cache/minildm"]
    there = [place for root in roots if (place := datasets.place_of(root, dataset))]
    there += [file.parent for file in (datasets.SOURCE_TREE / "data").glob(f"{dataset}-train.*")]
    print("in:", ", ".join(sorted({str(place) for place in there})))


def show_folder(
    folder: Path, size: int, fit: str, background: str, caption: str, strict: bool, out: Path | None
) -> None:
    """A folder of pictures, as it is trained on."""
    from minildm.data.folder import list_skipped, read_folder
    from minildm.data.picture_cache import decode

    found = read_folder(folder, caption, strict, progress=True)
    with tempfile.TemporaryDirectory(prefix="minildm-") as cache:
        decoded = decode(found, size, fit, background, cache, progress=True)
        if strict and decoded.skipped:
            got = list_skipped(folder, decoded.skipped)
            raise ValueError(f"{folder}: expected pictures alone, got {got}")
        if not decoded.entries:
            got = list_skipped(folder, decoded.skipped)
            raise ValueError(f"{folder}: expected pictures, got {got}")
        colour = "grey" if decoded.images.shape[1] == 1 else "colour"
        print(
            f"{folder}: {len(decoded.entries):,} pictures, in {colour}, "
            f"made {size}x{size} by {fit}, on {background}"
        )
        show_counts(found, decoded)
        show_sizes(decoded, size)
        show_captions(decoded)
        show_copies(found, decoded)
        skipped = [*found.skipped, *decoded.skipped]
        show_files("skipped", [f"{file.relative_to(folder)}: {why}" for file, why in skipped])
        for note in found.notes:
            print(f"note: {note}")
        if out is not None:
            draw_sheet(decoded, out)
            print(f"contact sheet: {out}")


def show_counts(found: PictureFolder, decoded: Decoded) -> None:
    """A row for each class, and one for all."""
    from collections import Counter

    count = Counter((entry.label, entry.split) for entry in decoded.entries)
    rows = [
        (name, count[label, "train"], count[label, "test"])
        for label, name in enumerate(found.classes)
    ]
    sides = Counter(entry.split for entry in decoded.entries)
    width = max(len(name) for name in ("all", *found.classes))
    print(f"{'':{width}} {'train':>9} {'test':>9}")
    for name, train, test in (*rows, ("all", sides["train"], sides["test"])):
        print(f"{name:{width}} {train:9,} {test:9,}")


def show_sizes(decoded: Decoded, size: int) -> None:
    """Of the files, before they are made square."""
    from concurrent.futures import ThreadPoolExecutor

    from minildm.data.pictures import upright_size

    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(lambda entry: upright_size(entry.file), decoded.entries))
    sizes.sort(key=lambda wide: wide[0] * wide[1])
    low, middle, high = (f"{w}x{h}" for w, h in (sizes[0], sizes[len(sizes) // 2], sizes[-1]))
    print(f"sizes: {low} to {high}, half of them up to {middle}")
    if decoded.enlarged:
        print(f"smaller than {size}x{size}, and enlarged: {decoded.enlarged:,}")


def show_captions(decoded: Decoded) -> None:
    """How many, of which words, and the longest."""
    texts = {
        split: {text for entry in decoded.entries if entry.split == split for text in entry.texts}
        for split in ("train", "test")
    }
    words = {
        split: {word for text in some for word in text.lower().split()}
        for split, some in texts.items()
    }
    longest = max(texts["train"] | texts["test"], key=lambda text: (len(text.split()), text))
    print(
        f"captions: {len(texts['train'] | texts['test']):,}, of {len(words['train']):,} words; the "
        f'longest, of {len(longest.split())}: "{longest}"'
    )
    show_files("words of the test that training has not", sorted(words["test"] - words["train"]))


def show_copies(found: PictureFolder, decoded: Decoded) -> None:
    """Copies in each split, and between them."""
    from minildm.data.duplicates import Copy, find_duplicates, find_leaks

    (train, train_entries), (test, test_entries) = map(decoded.split, ("train", "test"))

    def show(what: str, copies: list[Copy], first: Entries, second: Entries) -> int:
        for kind, exact in (("exact", True), ("near", False)):
            lines = [
                f"{second[copy.second].file.relative_to(found.root)} repeats "
                f"{first[copy.first].file.relative_to(found.root)}"
                + ("" if exact else f" ({copy.distance:.3f} apart)")
                for copy in copies
                if copy.exact == exact
            ]
            show_files(f"{kind} copies {what}", lines, zero=True)
        return len(copies)

    show("in train", find_duplicates(train), train_entries, train_entries)
    if test_entries:
        show("in test", find_duplicates(test), test_entries, test_entries)
        leaks = find_leaks(train, test)
        if show("of train in test", leaks, train_entries, test_entries):
            print("note: a picture that is in both makes scores too good: delete one of the two")


def show_files(what: str, lines: list[str], zero: bool = False) -> None:
    """A count, and the first of them."""
    if lines or zero:
        print(f"{what}: {len(lines):,}")
    for line in lines[:NAMED]:
        print(f"  {line}")
    if len(lines) > NAMED:
        print(f"  … and {len(lines) - NAMED:,} more")


def draw_sheet(decoded: Decoded, out: Path, columns: int = 10) -> None:
    """Write a row of pictures for each of the first 20 classes, or ten rows; evenly from all."""
    import torch

    from minildm.plots.images import save_grid

    groups: dict[int | None, list[int]] = {}
    for number, entry in enumerate(decoded.entries):
        groups.setdefault(entry.label, []).append(number)
    shown = [groups[label] for label in sorted(groups, key=lambda label: label or 0)][:20]
    width = columns if len(shown) > 1 else 10 * columns
    images = decoded.images
    white = torch.ones(images.shape[1:])
    sheet = []
    for group in shown:
        count = min(width, len(group))
        sheet += [images[group[i * len(group) // count]] for i in range(count)]
        sheet += [white] * (-count % columns)
    save_grid(sheet, out, columns, scale=max(1, 64 // images.shape[-1]))
