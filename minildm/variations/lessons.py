"""One training of an addition (`additions.py`), from what was asked to the card in its file; it can
be interrupted and goes on exactly. Chapter 16."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from minildm.data.text_image import TextImageDataset
from minildm.files import write_json
from minildm.state_dicts import digest
from minildm.training.own_pictures import describe_data
from minildm.training.runs import LOG_FILE
from minildm.training.state import open_log
from minildm.training.trainer import Trainer

Settings = Mapping[str, str | int | float | None]


class Lesson:
    """What is known of one training, in a folder of its own until what it makes is whole.

    kind: "lora", "word" or "controlnet", as the trainer is called
    of: the model's name; unet: its U-Net before anything is added
    folder: where it is kept meanwhile
    settings: what else decides the result, for the record
    steps, minutes: one of them; how long to train
    resume: go on with what was interrupted; ValueError if that had other pictures or settings
    """

    def __init__(
        self,
        kind: str,
        of: str,
        unet: nn.Module,
        data: TextImageDataset,
        folder: Path,
        settings: Settings,
        *,
        seed: int = 0,
        steps: int | None = None,
        minutes: float | None = None,
        resume: bool = False,
    ):
        self.kind = kind
        self.folder = folder
        self.device = next(unet.parameters()).device
        asked = {
            "recipe": {
                "for": of,
                "unet": digest(unet.state_dict().values()),
                "addition": kind,
                **settings,
            },
            "seed": seed,
            "minutes": minutes,
            "steps": {} if steps is None else {kind: steps},
            "data": describe_data(data),
        }
        self.log = open_log(self.folder / LOG_FILE, asked, self.device, 1, resume)

    def write_log(self) -> None:
        """Record how far the training has come."""
        write_json(self.folder / LOG_FILE, self.log)

    def steps(self, trainer: Trainer) -> int:
        """How many, as `additions.Steps` wants it: the recorded number, or as many as fit into the
        minutes."""
        if self.kind not in self.log["steps"]:
            seconds = 60 * self.log["minutes"]
            self.log["steps"][self.kind] = trainer.steps_within(seconds, self.device)
            self.write_log()
        self.trainer = trainer
        return self.log["steps"][self.kind]

    def card(self, **more: object) -> dict[str, object]:
        """How the addition came to be, once it is trained."""
        kept = ("seed", "data", "hardware", "threads")
        return {
            **self.log["recipe"],
            "steps": self.log["steps"][self.kind],
            "seconds": round(self.trainer.seconds, 1),
            **{key: self.log[key] for key in kept},
            **more,
        }

    def finish(self) -> None:
        """What was made is whole: nothing is left beside it."""
        shutil.rmtree(self.folder)
