"""`minildm lora`, `minildm invert` and `minildm controlnet`: a trained model learns something new,
and stays as it is."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

from typer import Option
from typer.models import OptionInfo

from minildm.cli.app import TEACH, app
from minildm.cli.options import (
    Device,
    GivenBackground,
    GivenCaption,
    GivenFit,
    Seed,
    Strict,
    in_short,
    integer,
    picture_settings,
    read_prompts,
)
from minildm.cli.task import STEPS, Task, example
from minildm.files import write_json

FAMILIAR = 80  # prompts that a LoRA keeps, if none are given

Taught = Annotated[
    str,
    Option(
        "--model",
        help="What is taught: a shipped model's name, or a folder in diffusers' layout.",
        metavar="NAME|FOLDER",
    ),
]
Data = Annotated[
    Path,
    Option(
        help="Pictures to learn from: a sub-folder for each class, or captions in metadata.jsonl "
        "or metadata.csv. A tenth of them, or what lies in test, is held out.",
        metavar="FOLDER",
    ),
]
OutFile = Annotated[Path, Option(help="The file to write, .safetensors.", metavar="FILE")]
Minutes = Annotated[
    float | None, Option(help="How long to train, instead of --steps.", metavar="FLOAT")
]
LearningRate = Annotated[float, Option(help="At its highest.", metavar="FLOAT")]
Resume = Annotated[
    bool, Option("--resume", help="Continue what was interrupted for --out.", metavar="")
]


def steps_option(kind: str) -> OptionInfo:
    """--steps, whose help says how many there are without it."""
    text = f"How long to train; by default {STEPS[kind]} steps."
    return Option(help=text, parser=integer, metavar="INT")


@app.command(rich_help_panel=TEACH)
def lora(
    model: Taught,
    data: Data,
    out: OutFile,
    caption: GivenCaption = None,
    fit: GivenFit = None,
    background: GivenBackground = None,
    strict: Strict = False,
    keep: Annotated[
        Path | None,
        Option(
            help="What shall be drawn as before: prompts in a text file, one a line; by default "
            "captions of what the model was trained on, where its card says that.",
            metavar="FILE",
        ),
    ] = None,
    rank: Annotated[
        int, Option(help="How many directions each layer may learn.", parser=integer, metavar="INT")
    ] = 4,
    learning_rate: LearningRate = 5e-3,
    steps: Annotated[int | None, steps_option("lora")] = None,
    minutes: Minutes = None,
    seed: Seed = 0,
    resume: Resume = False,
    device: Device = "auto",
) -> None:
    """Teach a model a thing or a style, by a little beside its attention (LoRA)."""
    settings = picture_settings(data, None, caption, fit, background, strict)
    task = Task("lora", model, data, out, settings, steps, minutes, seed, resume, device)
    if rank < 1:
        raise ValueError(f"--rank: expected 1 or more, got {rank}")
    if not task.is_to_do(learning_rate):
        return
    kept = read_prompts(keep, "--keep") if keep else []
    with task.interruptible():
        from minildm.variations.additions import familiar_prompts, train_lora

        pipeline = task.open_model()
        kept = kept or familiar_prompts(pipeline.card, FAMILIAR, seed)
        if not kept:
            warnings.warn("nothing is trained to stay as it is: --keep FILE would", stacklevel=1)
        pictures = task.read_pictures(pipeline)
        unknown = pipeline.tokenizer.unknown_words(" ".join(pictures.texts))
        asked = {"rank": rank, "learning_rate": learning_rate, "keep": in_short(kept)}
        lesson = task.begin(pipeline, pictures, asked)
        learned = train_lora(
            pipeline,
            pictures,
            lesson.steps,
            rank=rank,
            keep=kept,
            learning_rate=learning_rate,
            seed=seed,
            folder=lesson.folder,
        )
        learned.save_pretrained(out, card=lesson.card(words=unknown))
    task.end(lesson, example(pictures), "--lora", out)


@app.command(rich_help_panel=TEACH)
def invert(
    model: Taught,
    word: Annotated[str, Option(help='The new word, such as "<heart>".', metavar="WORD")],
    data: Data,
    out: OutFile,
    in_place_of: Annotated[
        str | None,
        Option(
            help="What the captions say where the word belongs; by default the word without <>, "
            "if it does not stand there itself.",
            metavar="TEXT",
        ),
    ] = None,
    like: Annotated[
        str | None,
        Option(help="A known word to begin from; by default the mean of all.", metavar="WORD"),
    ] = None,
    caption: GivenCaption = None,
    fit: GivenFit = None,
    background: GivenBackground = None,
    strict: Strict = False,
    learning_rate: LearningRate = 0.03,
    steps: Annotated[int | None, steps_option("word")] = None,
    minutes: Minutes = None,
    seed: Seed = 0,
    resume: Resume = False,
    device: Device = "auto",
) -> None:
    """Teach a model a word, whose vector is all that is learned (textual inversion).

    It finds what the model can draw already and has no word for, such as a
    colour between two that it knows. What it cannot draw, a new shape or a
    darker colour, no vector finds: that wants minildm lora. Taught to scenes by
    18 pictures, orange was orange (red 0.96, green 0.55, blue 0.02 for 1, 0.5,
    0), and a dark teal came out as the cyan that the model knows.
    """
    settings = picture_settings(data, None, caption, fit, background, strict)
    task = Task("word", model, data, out, settings, steps, minutes, seed, resume, device)
    if not task.is_to_do(learning_rate):
        return
    with task.interruptible():
        from minildm.variations.additions import captioned_with, train_word, untaught_word
        from minildm.variations.textual_inversion import save_word, word_vector

        pipeline = task.open_model()
        untaught_word(pipeline, word, like)  # its errors, before the work
        pictures = task.read_pictures(pipeline)
        pictures = captioned_with(pictures, word, in_place_of or word.strip("<>"))
        asked = {"word": word, "like": like, "learning_rate": learning_rate}
        lesson = task.begin(pipeline, pictures, asked)
        taught = train_word(
            pipeline,
            word,
            pictures,
            lesson.steps,
            like=like,
            learning_rate=learning_rate,
            seed=seed,
            folder=lesson.folder,
        )
        save_word(out, word, word_vector(taught, word), lesson.card())
    task.end(lesson, example(pictures), "--word", out)


@app.command(rich_help_panel=TEACH)
def controlnet(
    model: Taught,
    data: Annotated[
        Path,
        Option(
            help="Pictures as for minildm lora, and a map beside each: name.png and name.map.png.",
            metavar="FOLDER",
        ),
    ],
    out: Annotated[Path, Option(help="The folder to write.", metavar="FOLDER")],
    classes: Annotated[
        int | None,
        Option(
            help="The maps' pixels are the numbers of so many classes, as grey levels or with a "
            "palette; without it a map is a picture, of edges or depth say.",
            parser=integer,
            metavar="INT",
        ),
    ] = None,
    caption: GivenCaption = None,
    fit: GivenFit = None,
    background: GivenBackground = None,
    strict: Strict = False,
    learning_rate: LearningRate = 1e-3,
    steps: Annotated[int | None, steps_option("controlnet")] = None,
    minutes: Minutes = None,
    seed: Seed = 0,
    resume: Resume = False,
    device: Device = "auto",
) -> None:
    """Teach a network beside a model to tell it what is to be where (ControlNet)."""
    settings = picture_settings(data, None, caption, fit, background, strict)
    task = Task("controlnet", model, data, out, settings, steps, minutes, seed, resume, device)
    if classes is not None and not 2 <= classes <= 256:
        raise ValueError(f"--classes: expected a number from 2 to 256, got {classes}")
    if not task.is_to_do(learning_rate):
        return
    with task.interruptible():
        from minildm.data.layout import map_of
        from minildm.data.maps import check_maps, read_maps
        from minildm.state_dicts import digest
        from minildm.variations.additions import train_controlnet
        from minildm.variations.fitting import framed, picture_size

        pipeline = task.open_model()
        check_maps(data)
        pictures = task.read_pictures(pipeline)
        maps = read_maps(
            pictures.files,
            picture_size(pipeline),
            classes,
            settings.get("fit", "crop"),
            settings.get("background", "white"),
        )
        asked = {"classes": classes, "learning_rate": learning_rate, "maps": digest([maps])}
        lesson = task.begin(pipeline, pictures, asked)
        learned = train_controlnet(
            pipeline,
            pictures,
            framed(pipeline, maps),
            lesson.steps,
            classes=classes,
            learning_rate=learning_rate,
            seed=seed,
            folder=lesson.folder,
        )
        learned.save_pretrained(out)
        write_json(out / "minildm.json", lesson.card())
    drawn = map_of(pictures.files[0])
    task.end(lesson, example(pictures), "--control", drawn, "--controlnet", out)
