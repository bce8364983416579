"""Make the shipped ControlNet again: `python scripts/make_controlnet.py`, part of `make weights`;
three quarters of an hour of a busy core.

It tells the frozen U-Net of `scenes` a semantic map, as one plane for each class at the size of the
picture. Text is left out in some of the training, so that the map has to say by itself what it can
(Zhang et al. 2023, §3.3).
"""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from minildm import StableDiffusionPipeline, mnist
from minildm.data import DigitScenes, TextImageDataset
from minildm.evaluation import score_scenes
from minildm.files import write_json
from minildm.models import ImageClassifier
from minildm.pipelines import WEIGHTS
from minildm.training import Trainer, hardware
from minildm.variations import (
    MAP_CLASSES,
    ControlledUNet,
    ControlNetModel,
    encode_maps,
    train_controlnet,
)

NAME = "scenes-controlnet"
RECIPE = {
    "scenes": 6000,
    "steps": 1000,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "ema": 0.1,
    "prompt_dropout": 0.3,
}
SAMPLES, SEED = 200, 0


def make_controlnet(runs: Path) -> None:
    """Training, half precision, score."""
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS / "scenes")
    scenes = DigitScenes(mnist("train")).sample(
        RECIPE["scenes"], torch.Generator().manual_seed(SEED + 1)
    )
    data = TextImageDataset(
        images=scenes.images,
        labels=scenes.attributes.digits[:, 0],
        captions=[[caption] for caption in scenes.captions],
        caption_of=torch.arange(len(scenes.images)),
        texts=scenes.captions,
    )
    used: list[Trainer] = []  # which knows the seconds, those before an interruption too

    def steps(trainer: Trainer) -> int:
        used.append(trainer)
        return RECIPE["steps"]

    runs.mkdir(parents=True, exist_ok=True)
    controlnet = train_controlnet(
        pipeline,
        data,
        scenes.maps,
        steps,
        classes=MAP_CLASSES,
        learning_rate=RECIPE["learning_rate"],
        ema=RECIPE["ema"],
        batch_size=RECIPE["batch_size"],
        prompt_dropout=RECIPE["prompt_dropout"],
        seed=SEED,
        stream=NAME,
        folder=runs,
    )
    controlnet.save_pretrained(WEIGHTS / NAME, torch.float16)
    card = {
        "for": "scenes",
        "condition": f"a semantic map, one plane for each of {MAP_CLASSES} classes",
        "recipe": RECIPE | {"seed": SEED},
        "seconds": round(used[0].seconds, 1),
        "hardware": hardware(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "evaluation": evaluate(pipeline, ControlNetModel.from_pretrained(WEIGHTS / NAME)),
    }
    write_json(WEIGHTS / NAME / "minildm.json", card)


def evaluate(
    pipeline: StableDiffusionPipeline, controlnet: ControlNetModel, samples: int = SAMPLES
) -> dict:
    """The scores of drawings with map and caption, each alone, and of the caption with another
    scene's map."""
    examiner = ImageClassifier.from_pretrained(WEIGHTS / "mnist-examiner")
    asked = DigitScenes(mnist("test")).sample(samples, torch.Generator().manual_seed(SEED))
    noise = pipeline.starting_noise(samples, generator=torch.Generator().manual_seed(SEED))
    maps = encode_maps(asked.maps, asked.maps.shape[1])
    controlled = StableDiffusionPipeline.from_pipe(
        pipeline, unet=ControlledUNet(pipeline.unet, controlnet, maps)
    )

    def scored(drawn: Tensor, maps: Tensor = asked.maps) -> dict[str, float | None]:
        scores = asdict(score_scenes(examiner, drawn, asked.attributes, maps))
        return {
            name: None if value is None else round(float(value), 4)
            for name, value in scores.items()
        }

    options = {"latents": noise, "batch_size": samples, "progress": False}
    both, text = controlled(asked.captions, **options), pipeline(asked.captions, **options)
    return {
        "samples": samples,
        "map and text": scored(both),
        "text alone": scored(text),
        "map alone": scored(controlled([""] * samples, guidance_scale=1.0, **options)),
        "map and text, against another scene's map": scored(both, asked.maps.roll(1, 0)),
        "real": scored(asked.images),
    }


if __name__ == "__main__":
    make_controlnet(WEIGHTS.parents[1] / "runs" / "weights" / NAME)
