"""`minildm data`: what there is to train on."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Argument

from minildm.cli.app import TRAIN, app
from minildm.cli.errors import at_once


@app.command(rich_help_panel=TRAIN)
def data(
    dataset: Annotated[str, Argument(help="mnist, fashion_mnist or cifar10.", metavar="NAME")],
) -> None:
    """Show what there is of a data set, and where; download what is missing."""
    with at_once():
        from minildm.data import datasets

    if dataset not in datasets.LOADERS:
        raise ValueError(f"expected a data set of {', '.join(datasets.LOADERS)}, got {dataset!r}")
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
