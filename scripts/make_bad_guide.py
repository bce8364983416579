"""Early snapshots of the shipped digits' training, which autoguidance steers away from:
`python scripts/make_bad_guide.py OUT`, about ten minutes for each width on one CPU core.

The recipe of the shipped model from its first step, in the latents of the shipped autoencoder, with
the learning rates and the average of all 18,000 steps, but stopped after the last snapshot. Each is
a folder OUT/CHANNELS-STEPS in half precision. `minildm train --snapshot` keeps one of its own.
"""

import argparse
import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from make_lcm import latent_batches

from minildm import StableDiffusionPipeline
from minildm.data import load_text_image
from minildm.pipelines import WEIGHTS
from minildm.schedulers import DDPMScheduler
from minildm.training import (
    EMA,
    PRESETS,
    DenoisingLoss,
    TextConditionedUNet,
    Trainer,
    hardware,
    new_denoiser,
)

OF = "mnist"
STEPS = 18_000  # of the training that is stopped early
KEPT = ("dataset", "image_size", "guidance_scale", "num_inference_steps", "prediction_type")


class EarlyEnough(Exception):
    """The last snapshot is there."""


def snapshots(out: Path, channels: Sequence[int], at: Sequence[int], seed: int = 0) -> list[Path]:
    """The folders of the model after each of `at` steps, with U-Nets of so many `channels`. A
    training that was stopped goes on."""
    recipe, of = PRESETS[OF], StableDiffusionPipeline.from_pretrained(OF)
    recipe = replace(recipe, unet={**recipe.unet, "block_out_channels": tuple(channels)})
    folders = {steps: out / f"{'-'.join(map(str, channels))}-{steps}" for steps in sorted(at)}
    if all((folder / "model_index.json").is_file() for folder in folders.values()):
        return list(folders.values())
    vae, data = of.vae, load_text_image(OF)
    tokenizer, text_encoder, unet = new_denoiser(
        recipe, data.texts, vae.config.latent_channels, seed
    )
    batches = latent_batches(
        vae,
        tokenizer,
        data,
        prompt_dropout=recipe.prompt_dropout,
        batch_size=recipe.denoiser.batch_size,
        seed=seed,
    )
    card = {key: of.card[key] for key in KEPT} | {
        "snapshot_of": f"{STEPS:,} steps",
        "seed": seed,
        "hardware": hardware(torch.device("cpu")),
        "threads": torch.get_num_threads(),
    }
    pipeline = StableDiffusionPipeline(vae, text_encoder, tokenizer, unet, of.scheduler, card)

    def keep(step: int, ema: EMA | None) -> None:
        if ema is not None and (done := step + 1) in folders:
            then = copy.deepcopy(pipeline)
            ema.copy_to([*then.unet.parameters(), *then.text_encoder.parameters()])
            then.card |= {"snapshot": done}
            then.save_pretrained(folders[done], torch.float16)
            if done == max(at):
                raise EarlyEnough

    loss = DenoisingLoss(TextConditionedUNet(unet, text_encoder), DDPMScheduler(**recipe.scheduler))
    trainer = Trainer(
        "bad guide",
        loss,
        batches,
        learning_rate=recipe.denoiser.learning_rate,
        weight_decay=recipe.denoiser.weight_decay,
        ema=recipe.denoiser.ema,
    )
    trainer.after_step = keep
    runs = out / "-".join(map(str, channels))
    runs.mkdir(parents=True, exist_ok=True)
    try:
        trainer.train(STEPS, runs)
    except EarlyEnough:
        pass
    return list(folders.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", default=WEIGHTS.parents[1] / "runs/bad_guides")
    parser.add_argument("--channels", nargs="+", type=int, default=[48, 96])
    parser.add_argument("--steps", nargs="+", type=int, default=[250, 500, 1000, 2000])
    options = parser.parse_args()
    for folder in snapshots(options.out, options.channels, options.steps):
        print(folder)


if __name__ == "__main__":
    main()
