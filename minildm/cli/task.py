"""What the commands that teach have in common: what they check, where they keep a training, and how
they end."""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from minildm.cli.options import (
    PictureSettings,
    check_file,
    check_folder,
    check_minutes,
    open_model,
    picture_cache,
)
from minildm.errors import at_once
from minildm.files import alone_in

if TYPE_CHECKING:
    from minildm.data.text_image import TextImageDataset
    from minildm.pipelines.stable_diffusion import StableDiffusionPipeline
    from minildm.variations.lessons import Lesson, Settings

STEPS = {"lora": 400, "word": 150, "controlnet": 500}


@dataclass(frozen=True)
class Task:
    """What the three commands have in common."""

    kind: str
    model: str
    data: Path
    out: Path
    settings: PictureSettings
    steps: int | None
    minutes: float | None
    seed: int
    resume: bool
    device: str

    @property
    def folder(self) -> Path:
        """Where the training is kept until what it makes is whole."""
        return self.out.with_name(self.out.name + ".training")

    def is_to_do(self, learning_rate: float) -> bool:
        """Check what can be checked without torch; False if it has been done."""
        if self.steps is not None and self.minutes is not None:
            raise ValueError("expected --steps or --minutes, got both")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"--steps: expected 1 or more, got {self.steps}")
        if self.minutes is not None:
            check_minutes(self.minutes)
        if not 0 < learning_rate < math.inf:
            raise ValueError(f"--learning-rate: expected more than 0, got {learning_rate}")
        done = self.out.is_file() or (self.out / "config.json").is_file()
        if done and self.resume and not self.folder.exists():
            print(f"{self.out} is finished: there is nothing to go on with")
            return False
        if done:
            raise ValueError(f"expected a name for what is new, got {self.out}, which is there")
        if self.kind == "controlnet":
            check_folder(self.out)
        else:
            check_file(self.out, ".safetensors")
        return True

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """What is done meanwhile --resume goes on with; if it could not even begin, nothing of it
        is left."""
        with at_once():
            from minildm.training.runs import LOG_FILE
        with alone_in(self.folder):
            try:
                yield
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    "; the same command with --resume goes on from here"
                ) from None
            except (ValueError, OSError):
                if not (self.folder / LOG_FILE).exists():
                    shutil.rmtree(self.folder, ignore_errors=True)
                raise

    def open_model(self) -> StableDiffusionPipeline:
        """The model, if it can be taught."""
        from minildm.training.runs import LOG_FILE
        from minildm.training.state import check_unused
        from minildm.variations.additions import check_teachable

        if not self.resume:
            check_unused(self.folder / LOG_FILE)
        pipeline = open_model(self.model, self.device)
        check_teachable(pipeline)
        return pipeline

    def read_pictures(self, pipeline: StableDiffusionPipeline) -> TextImageDataset:
        """The folder's training pictures, as the model reads its own."""
        from minildm.data.text_image import TextImageDataset
        from minildm.variations.fitting import fitted, picture_size

        size = picture_size(pipeline)
        settings: PictureSettings = {**self.settings, "size": size}
        pictures = TextImageDataset.from_folder(
            self.data,
            cache=picture_cache(self.folder, size),
            progress=True,
            **settings,
        )
        print(f'{len(pictures):,} pictures to learn from, such as "{example(pictures)}"')
        return replace(pictures, images=fitted(pipeline, pictures.images))

    def begin(
        self, pipeline: StableDiffusionPipeline, pictures: TextImageDataset, asked: Settings
    ) -> Lesson:
        """The record of this training, or of the one to go on with."""
        from minildm.variations.lessons import Lesson

        default = None if self.minutes is not None else STEPS[self.kind]
        return Lesson(
            self.kind,
            Path(self.model).name,
            pipeline.unet,
            pictures,
            self.folder,
            asked,
            seed=self.seed,
            steps=self.steps or default,
            minutes=self.minutes,
            resume=self.resume,
        )

    def end(self, lesson: Lesson, prompt: str, *options: object) -> None:
        """Nothing is left beside what was made; how it is used."""
        lesson.finish()
        words = ["minildm", "sample", prompt, "--model", self.model, *map(str, options)]
        print(f"learned: {self.out}, which draws with: {shlex.join(words)}")


def example(pictures: TextImageDataset) -> str:
    """A caption of the first picture."""
    return pictures.captions[int(pictures.caption_of[0])][0]
