"""`minildm evaluate`: how good a model is."""

from __future__ import annotations

import warnings
from pathlib import Path
from sys import stderr
from typing import TYPE_CHECKING, Annotated

from typer import Option

from minildm.cli.app import DRAW, app
from minildm.cli.options import (
    Autoguidance,
    BadGuide,
    Data,
    Device,
    GivenBackground,
    GivenCaption,
    GivenFit,
    Guidance,
    GuidanceStart,
    Model,
    PictureSettings,
    Sampler,
    Seed,
    Steps,
    Strict,
    check_file,
    integer,
    open_model,
    picture_cache,
    picture_settings,
)
from minildm.errors import at_once
from minildm.files import write_json

EXAMINER = "examiner"  # the classifier's folder, in the model's

if TYPE_CHECKING:
    from minildm.data.text_image import TextImageDataset
    from minildm.models.classifier import ImageClassifier
    from minildm.pipelines.stable_diffusion import StableDiffusionPipeline


@app.command(rich_help_panel=DRAW)
def evaluate(
    model: Model = "mnist",
    samples: Annotated[
        int, Option(help="How many to draw, balanced.", parser=integer, metavar="INT")
    ] = 1000,
    sampler: Sampler = None,
    steps: Steps = None,
    guidance: Guidance = None,
    guidance_start: GuidanceStart = None,
    bad_guide: BadGuide = None,
    autoguidance: Autoguidance = None,
    seed: Seed = 0,
    full: Annotated[
        bool, Option("--full", help="Beside all of CIFAR-10, not its bundled tenth.", metavar="")
    ] = False,
    data: Data = None,
    caption: GivenCaption = None,
    fit: GivenFit = None,
    background: GivenBackground = None,
    strict: Strict = False,
    pairs: Annotated[
        Path | None,
        Option(
            help="With --data: where the drawings nearest to a training picture go, beside it; by "
            "default pairs.png.",
            metavar="FILE",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, Option("--json", help="Write the scores there too.", metavar="FILE")
    ] = None,
    device: Device = "auto",
) -> None:
    """Score a model's pictures, beside as many real ones."""
    settings = picture_settings(data, None, caption, fit, background, strict)
    if data is None and pairs is not None:
        raise ValueError("expected --data FOLDER with --pairs, got none")
    if data is not None and full:
        raise ValueError("expected --data or --full, got both: all of CIFAR-10 is no folder")
    pairs = pairs or Path("pairs.png")
    for file, suffix in ((json_file, ".json"), (pairs if data else None, ".png")):
        if file is not None:
            check_file(file, suffix)
    with at_once():
        from minildm.evaluation import evaluation

    pipeline = open_model(model, device, sampler, bad_guide, autoguidance)
    asked = {"model": model, "full": full} | ({"bad_guide": bad_guide} if bad_guide else {})
    if data is None:
        result = evaluation.evaluate(
            pipeline, samples, seed, steps, guidance, guidance_start, full=full
        )
        print(result)
    else:
        from minildm.evaluation.held_out import evaluate_pictures
        from minildm.plots.images import save_grid

        train, test, examiner = held_out(pipeline, Path(model), data, settings)
        result = evaluate_pictures(
            pipeline, train, test, examiner, samples, seed, steps, guidance, guidance_start
        )
        save_grid(result.pairs.flatten(0, 1), pairs, ncols=8, scale=2)
        print(result)
        print(f"drawings, each beside its nearest training picture, the nearest first: {pairs}")
        asked = {"model": model, "data": data.resolve().name}
    if json_file is not None:
        write_json(json_file, asked | result.as_dict())


def held_out(
    pipeline: StableDiffusionPipeline, model: Path, folder: Path, settings: PictureSettings
) -> tuple[TextImageDataset, TextImageDataset, ImageClassifier]:
    """The training and the held-out pictures of a folder, made square as those that the model was
    trained on, and a classifier of the former; pictures and classifier are kept in the model's
    folder."""
    from minildm.data.text_image import TextImageDataset
    from minildm.evaluation.held_out import check_pictures
    from minildm.training.examiners import examiner_for
    from minildm.training.own_pictures import describe_data

    card, kept = pipeline.card.get("data", {}), model if model.is_dir() else None
    size = pipeline.vae.config.sample_size
    for key in ("caption", "fit", "background"):
        if key in card:
            settings.setdefault(key, card[key])
    settings["size"] = size
    cache = None if kept is None else picture_cache(kept, size)
    train = TextImageDataset.from_folder(folder, cache=cache, progress=True, **settings)
    check_pictures(pipeline, train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has been said
        test = TextImageDataset.from_folder(folder, "test", cache=cache, **settings)
    if card and card.get("fingerprint") != describe_data(train)["fingerprint"]:
        warnings.warn(
            f"the model was not trained on what is in {folder} now, or it was made square in "
            "another way",
            stacklevel=2,
        )
    place = None if kept is None else kept / EXAMINER
    if place is None or not place.exists():
        where = "" if place is None else f" and kept in {place}"
        print(f"scored by a classifier of the training pictures, trained now{where}", file=stderr)
    return train, test, examiner_for(train, place)
