"""What does a U-Net gain from reading every word? Three of them, equal weight for weight, learn to
draw DigitScenes in
the latents of the shipped autoencoder: told a class for each thing, the whole text as one vector,
or a vector for every word. Chapter 09 shows the table.

    python benchmarks/conditioning.py [--seeds 0] [--model scenes] [--runs runs/conditioning]
                                      [--out benchmarks/conditioning.json]

A cell is one variant with one seed, about three minutes of one busy core. Finished cells are kept
in --runs, so that an interrupted run goes on where it was; --out is written by the run that finds
all of them there.
"""

import argparse
import hashlib
import itertools
import statistics
import time
from dataclasses import asdict
from pathlib import Path

import torch
from cells import Cells

from minildm import (
    CLIPTextModel,
    CLIPTokenizer,
    DDPMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    mnist,
)
from minildm.data import (
    Attributes,
    DigitScenes,
    paint_scenes,
    parse_captions,
    sample_attributes,
    write_captions,
)
from minildm.evaluation import score_scenes
from minildm.files import write_json
from minildm.models import ImageClassifier
from minildm.pipelines import shipped
from minildm.training import (
    DenoisingLoss,
    TextConditionedUNet,
    Trainer,
    denoiser_batches,
    encode_dataset,
    hardware,
)
from minildm.variations import NOTHING, ClassContext, PooledContext, class_rows, sample_with_context

SETTINGS = {
    "variants": ["class", "pooled text", "every word"],
    "seeds": [0],
    "dim": 64,  # of a context's vectors
    "text_encoder": {
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
    },
    "unet": {
        "sample_size": 8,
        "block_out_channels": [32, 64],
        "layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D"] * 2,
        "up_block_types": ["CrossAttnUpBlock2D"] * 2,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    },
    "scheduler": {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
    "scenes": 5000,
    "steps": 1000,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "ema": 0.05,
    "prompt_dropout": 0.1,
    "samples": 120,
    "guidance_scale": 2.0,
    "num_inference_steps": 15,
    "asked": {  # name -> split and number of digits of the scenes asked for
        "one digit, seen": ["seen", 1],
        "one digit, held-out colour": ["held_out_colour", 1],
        "two digits": ["seen", 2],
        "two digits, one held-out colour": ["held_out_colour", 2],
    },
}


class Bench:
    """What all cells share: the scenes, their latents, the words, the examiner."""

    def __init__(self, model: str, settings: dict = SETTINGS):
        self.settings = settings
        self.pipeline = StableDiffusionPipeline.from_pretrained(model)
        self.examiner = (
            ImageClassifier.from_pretrained(shipped("mnist-examiner")).eval().requires_grad_(False)
        )
        dataset = paint_scenes(settings["scenes"])
        vae, factor = self.pipeline.vae.eval(), self.pipeline.vae.config.scaling_factor
        self.mean, self.std = (
            factor * part for part in encode_dataset(vae, dataset.images, progress=False)
        )
        length = settings["text_encoder"]["max_position_embeddings"]
        self.tokenizer = CLIPTokenizer.train(dataset.texts, model_max_length=length)
        self.captions = dataset.captions

    def reader(self, variant: str) -> torch.nn.Module:
        """What makes the context, with random weights."""
        if variant == "class":
            return ClassContext(self.settings["dim"])
        ids = {
            key: getattr(self.tokenizer, key)
            for key in ("bos_token_id", "eos_token_id", "pad_token_id")
        }
        words = {"vocab_size": len(self.tokenizer), "hidden_size": self.settings["dim"]}
        text_encoder = CLIPTextModel(**self.settings["text_encoder"], **words, **ids)
        return PooledContext(text_encoder) if variant == "pooled text" else text_encoder

    def numbers(self, variant: str, captions: list[str]) -> torch.Tensor:
        """What the reader reads of these captions; of "", no prompt: (N, …)."""
        if variant != "class":
            return self.tokenizer(captions)
        return (
            torch.full((1, 3), NOTHING)
            if captions == [""]
            else class_rows(parse_captions(captions))
        )

    def train(
        self, variant: str, seed: int, steps: int
    ) -> tuple[UNet2DConditionModel, torch.nn.Module, list[float]]:
        torch.manual_seed(seed)  # the same first weights of the U-Net for every variant
        unet = UNet2DConditionModel(
            **self.settings["unet"],
            in_channels=self.mean.shape[1],
            out_channels=self.mean.shape[1],
            cross_attention_dim=self.settings["dim"],
        )
        reader = self.reader(variant)
        if variant == "class":  # all phrasings of a scene say the same
            numbers = list(self.numbers(variant, [texts[0] for texts in self.captions])[:, None])
        else:
            numbers = [self.tokenizer(texts) for texts in self.captions]
        batches = denoiser_batches(
            self.mean,
            self.std,
            caption_of=torch.arange(len(self.mean)),
            caption_ids=numbers,
            empty_ids=self.numbers(variant, [""])[0],
            prompt_dropout=self.settings["prompt_dropout"],
            batch_size=self.settings["batch_size"],
            seed=seed,
        )
        scheduler = DDPMScheduler(**self.settings["scheduler"])
        trainer = Trainer(
            variant,
            DenoisingLoss(TextConditionedUNet(unet, reader), scheduler),
            batches,
            learning_rate=self.settings["learning_rate"],
            ema=self.settings["ema"],
        )
        return unet, reader, trainer.train(steps, progress=False)

    def score(self, variant: str, unet, reader, asked: Attributes, seed: int) -> dict[str, float]:
        """Scores of pictures drawn for the plain captions of these scenes."""
        noise = self.pipeline.starting_noise(
            len(asked.ground), generator=torch.Generator().manual_seed(seed)
        )
        numbers, nothing = (
            self.numbers(variant, write_captions(asked)),
            self.numbers(variant, [""])[0],
        )
        options = (self.settings["guidance_scale"], self.settings["num_inference_steps"])
        pictures = sample_with_context(
            self.pipeline, unet, reader, numbers, nothing, noise, *options
        )
        scores = asdict(score_scenes(self.examiner, pictures, asked))
        return {name: round(value, 4) for name, value in scores.items() if value is not None}


def questions(name: str) -> Attributes:
    """The scenes asked for under this name, the same ones for every cell."""
    split, count = SETTINGS["asked"][name]
    return sample_attributes(SETTINGS["samples"], torch.Generator().manual_seed(1), split, count)


def measure(bench: Bench, variant: str, seed: int) -> dict:
    """Train one network and score it."""
    start = time.process_time()
    unet, reader, losses = bench.train(variant, seed, SETTINGS["steps"])
    trained = time.process_time() - start
    scores = {
        name: bench.score(variant, unet, reader, questions(name), seed)
        for name in SETTINGS["asked"]
    }
    return {
        "variant": variant,
        "seed": seed,
        "parameters": {
            part: sum(p.numel() for p in module.parameters())
            for part, module in (("unet", unet), ("reader", reader))
        },
        "loss": round(statistics.fmean(losses[-100:]), 5),
        "scores": scores,
        "seconds": {"training": round(trained, 1), "all": round(time.process_time() - start, 1)},
    }


@torch.no_grad()
def floor(bench: Bench) -> dict:
    """What real scenes score that the autoencoder has rebuilt: no network here can do better."""
    scores, scenes = {}, DigitScenes(mnist("test"))
    for name in SETTINGS["asked"]:
        drawn = scenes.draw(questions(name), torch.Generator().manual_seed(0))
        rebuilt = bench.pipeline.vae.decode(bench.pipeline.vae.encode(drawn.images).mean)
        found = asdict(score_scenes(bench.examiner, rebuilt, drawn.attributes))
        scores[name] = {key: round(value, 4) for key, value in found.items() if value is not None}
    return scores


def digest(vae: torch.nn.Module) -> str:
    """Which autoencoder it was: SHA-256 of its weights in half precision, in which it is
    shipped."""
    tensors = sorted(vae.state_dict().items())
    return hashlib.sha256(
        b"".join(x.half().cpu().contiguous().numpy().tobytes() for _, x in tensors)
    ).hexdigest()


def table(cells: list[dict]) -> str:
    """Everything right, or the colours: the mean over the seeds, and the lowest and highest."""
    lines = []
    for what in ("all_right", "digits", "colours", "places"):
        lines.append(f"{what:14}" + "".join(f"{name:>34}" for name in SETTINGS["asked"]))
        for variant in SETTINGS["variants"]:
            rows = [cell["scores"] for cell in cells if cell["variant"] == variant]
            values = [[row[name][what] for row in rows] for name in SETTINGS["asked"]]
            texts = (f"{statistics.fmean(v):.1%} ({min(v):.1%} … {max(v):.1%})" for v in values)
            lines.append(f"  {variant:12}" + "".join(f"{text:>34}" for text in texts))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=SETTINGS["seeds"], choices=SETTINGS["seeds"]
    )
    parser.add_argument(
        "--model", default="scenes", help="whose autoencoder: a shipped model, or a folder"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/conditioning"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()

    bench = Bench(options.model)
    surroundings = {**SETTINGS, "vae": digest(bench.pipeline.vae)}
    try:
        cells = Cells(options.runs, surroundings)
    except ValueError as error:
        parser.error(str(error))

    for seed, variant in itertools.product(options.seeds, SETTINGS["variants"]):
        cells.measure(f"{variant} {seed}", lambda v=variant, s=seed: measure(bench, v, s))

    names = [
        f"{variant} {seed}"
        for seed, variant in itertools.product(SETTINGS["seeds"], SETTINGS["variants"])
    ]
    if missing := cells.missing(names):
        print(f"{options.out} is not written: {len(missing)} cells to come, {missing[0]} first")
        return
    measured = cells.read(names)
    made = {
        "command": "python benchmarks/conditioning.py",
        "vae": surroundings["vae"],
        "scaling_factor": bench.pipeline.vae.config.scaling_factor,
        "hardware": hardware(torch.device("cpu")),
        "threads": torch.get_num_threads(),
    }
    write_json(
        options.out, {"settings": SETTINGS, **made, "floor": floor(bench), "cells": measured}
    )
    print(table(measured))


if __name__ == "__main__":
    main()
