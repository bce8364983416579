"""One run: the whole chain trained from random weights, stage by stage, as a recipe says; stopped
and resumed at will. Chapters 11 and 18."""

from __future__ import annotations

import copy
import json
import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from minildm.data.text_image import TextImageDataset, load_text_image
from minildm.files import alone_in, write_json, write_tensors
from minildm.models.autoencoder import AutoencoderKL, with_scaling_factor
from minildm.models.classifier import ImageClassifier, extract, shift_and_mirror
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline
from minildm.schedulers.ddpm import DDPMScheduler
from minildm.schedulers.dpm_solver import DPMSolverMultistepScheduler
from minildm.training.batches import (
    autoencoder_batches,
    classifier_batches,
    denoiser_batches,
    encode_dataset,
)
from minildm.training.losses import PatchDiscriminator
from minildm.training.objectives import (
    AutoencoderLoss,
    ClassifierLoss,
    DenoisingLoss,
    TextConditionedUNet,
)
from minildm.training.own_pictures import (
    check_data,
    describe_data,
    perceptual_labels,
    tokenize_captions,
    warn_of_long_captions,
)
from minildm.training.recipes import Recipe, new_denoiser, new_trainer, preset, seeded
from minildm.training.state import EMA, STATE_FILE, load_weights, open_log
from minildm.training.trainer import Trainer, open_accelerator

if TYPE_CHECKING:
    from accelerate import Accelerator

LOG_FILE = "training.json"
SNAPSHOT = "snapshot"  # the folder of a bad guide, beside the model's parts
STAGES = ("perceptual_net", "autoencoder", "denoiser")
# Batch normalisation needs the whole batch: every process trains the same small perceptual net, not
# a share of it.
ALONE = ("perceptual_net",)
# The perceptual net's random numbers bear the name that it had when the shipped models were
# trained: the stream's name is part of the seed, and another would train other weights.
PERCEPTUAL_STREAM = "critic"


def train(
    recipe: Recipe | str,
    out: Path | str,
    minutes: float | None = 4.0,
    steps: tuple[int, int, int] | None = None,
    seed: int = 0,
    resume: bool = False,
    device: str = "auto",
    mixed_precision: str | None = None,
    progress: bool = True,
    snapshot: float | None = None,
    data: TextImageDataset | None = None,
) -> StableDiffusionPipeline:
    """Train all three stages and write the model into the folder `out`, in diffusers' layout;
    returns the pipeline.

    recipe: a Recipe, or the name of one in PRESETS
    minutes: wall-clock time to train for; each stage counts, from its first steps, how many fit
        into its share
    steps: the steps of each stage instead; they are recorded either way, in training.json
    resume: go on from what is in `out`; with the same threads, bit for bit as if nothing had
        happened
    device: "auto", "cpu", "cuda" or "mps"; under `accelerate launch` each process takes its own
    snapshot: the part of the denoiser's steps, in (0, 1], after which the average so far is kept as
        a model in `out`/snapshot, in half precision: a bad guide for an `AutoguidedPipeline`
    data: pictures of one's own instead of what the recipe names, which `recipe_for(data)` fits
    """
    from accelerate.utils import broadcast_object_list

    recipe = preset(recipe) if isinstance(recipe, str) else recipe
    if steps is not None and (len(steps) != 3 or min(steps) < 1):
        raise ValueError(
            f"expected three positive numbers of steps ({', '.join(STAGES)}), got {steps}"
        )
    if steps is None and (minutes is None or not 0 < 60 * minutes < math.inf):
        raise ValueError(f"expected minutes > 0, or steps, got {minutes}")
    if snapshot is not None and not 0 < snapshot <= 1:
        raise ValueError(f"expected a snapshot after a part of the steps in (0, 1], got {snapshot}")
    check_data(recipe, data)
    sizes = recipe.autoencoder.batch_size, recipe.denoiser.batch_size
    accelerator = open_accelerator(device, mixed_precision, sizes)
    log: list[Any] = [None]
    with alone_in(Path(out)) if accelerator.is_main_process else nullcontext():
        if accelerator.is_main_process:
            if data is not None:
                warn_of_long_captions(recipe, data)
            file = Path(out) / LOG_FILE
            asked = {
                "recipe": json.loads(json.dumps(asdict(recipe))),  # as it will be read
                "seed": seed,
                "minutes": None if steps else minutes,
                "steps": dict(zip(STAGES, steps, strict=True)) if steps else {},
                **({} if snapshot is None else {"snapshot": snapshot}),
                **({} if data is None else {"data": describe_data(data)}),
            }
            log = [open_log(file, asked, accelerator.device, accelerator.num_processes, resume)]
        log = broadcast_object_list(log)
        progress = progress and accelerator.is_main_process
        return Run(recipe, Path(out), accelerator, log[0], seed, progress).train(data)


@dataclass
class Run:
    """One training of the whole chain: where it writes, what it has recorded."""

    recipe: Recipe
    out: Path
    accelerator: Accelerator
    log: dict[str, Any]
    """What goes into training.json: the steps, seconds and losses of each stage so far."""
    seed: int = 0
    progress: bool = True
    started: float = 0.0
    """When it would have begun, had it never been interrupted."""

    @property
    def main(self) -> bool:
        """Of several processes, is this the one that writes?"""
        return self.accelerator.is_main_process

    def train(self, data: TextImageDataset | None = None) -> StableDiffusionPipeline:
        """All three stages, or what is left of them."""
        if self.log["finished"]:
            return StableDiffusionPipeline.from_pretrained(self.out)
        recipe = self.recipe
        if data is None:
            data = load_text_image(
                recipe.dataset,
                recipe.num_images,
                size=recipe.vae["sample_size"],
                full=recipe.full,
                progress=self.progress,
            )
        self.started = time.monotonic() - sum(self.log["seconds"].values())
        perceptual_net = self.train_perceptual_net(data)
        vae = self.train_autoencoder(data, perceptual_net)
        mean, std = encode_dataset(vae, data.images, self.progress)
        vae = with_scaling_factor(vae, 1 / (mean.var() + std.square().mean()).sqrt().item())
        scale = vae.config.scaling_factor
        pipeline = self.train_denoiser(data, vae, mean * scale, std * scale)
        if self.main:
            pipeline.save_pretrained(self.out)
            self.log["finished"] = True
            self.write_log()
            for file in (STATE_FILE, *(f"{name}.safetensors" for name in STAGES)):
                (self.out / file).unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        return pipeline

    def train_perceptual_net(self, data: TextImageDataset) -> ImageClassifier:
        """The first stage: a small classifier whose features are a loss of the next stage."""
        recipe, stage = self.recipe, self.recipe.perceptual_net
        perceptual_net = seeded(self.seed, ImageClassifier, recipe.classifier)
        labels, seen = perceptual_labels(recipe, data), len(data) - recipe.held_out
        batches = classifier_batches(
            data.images.narrow(0, 0, seen),
            labels[:seen],
            stream=PERCEPTUAL_STREAM,
            batch_size=stage.batch_size,
            seed=self.seed,
            augment=shift_and_mirror if recipe.augmented else None,
        )
        loss = ClassifierLoss(perceptual_net)
        self.run_stage(new_trainer("perceptual_net", stage, loss, batches), perceptual_net)
        if recipe.held_out:
            rest = data.images.narrow(0, seen, recipe.held_out)
            right = extract(perceptual_net, rest)[1] == labels[seen:]
            self.log["held_out_accuracy"] = right.float().mean().item()
            self.write_log()
        return perceptual_net

    def train_autoencoder(
        self, data: TextImageDataset, perceptual_net: ImageClassifier
    ) -> AutoencoderKL:
        """The second stage: pixels to latents and back."""
        recipe, stage = self.recipe, self.recipe.autoencoder
        vae = seeded(self.seed, AutoencoderKL, recipe.vae)
        side = data.images.shape[-1] // vae.downscale_factor
        batches = autoencoder_batches(
            data.images,
            latent_shape=(vae.config.latent_channels, side, side),
            batch_size=stage.batch_size,
            seed=self.seed,
        )
        discriminator = None
        if recipe.discriminator_weight:
            config = {"in_channels": vae.config.out_channels, "width": recipe.discriminator_width}
            discriminator = seeded(self.seed, PatchDiscriminator, config)
        loss = AutoencoderLoss(
            vae,
            perceptual_net,
            recipe.perceptual_weight,
            recipe.kl_weight,
            discriminator,
            recipe.discriminator_weight,
        )
        trainer = new_trainer("autoencoder", stage, loss, batches)
        loss.discriminator_start = int(recipe.discriminator_start * self.steps_for(trainer))
        self.run_stage(trainer, vae)
        return vae

    def train_denoiser(
        self, data: TextImageDataset, vae: AutoencoderKL, mean: Tensor, std: Tensor
    ) -> StableDiffusionPipeline:
        """The third stage: the U-Net in the latents of the now frozen autoencoder, and with it the
        text encoder. mean, std: of every picture's scaled z, (N, C, h, w)."""
        recipe, stage = self.recipe, self.recipe.denoiser
        channels = vae.config.latent_channels
        tokenizer, text_encoder, unet = new_denoiser(recipe, data.texts, channels, self.seed)
        batches = denoiser_batches(
            mean,
            std,
            caption_of=data.caption_of,
            caption_ids=tokenize_captions(tokenizer, data.captions),
            empty_ids=tokenizer("")[0],
            prompt_dropout=recipe.prompt_dropout,
            batch_size=stage.batch_size,
            seed=self.seed,
        )
        predict = TextConditionedUNet(unet, text_encoder)
        loss = DenoisingLoss(predict, DDPMScheduler(**recipe.scheduler))
        trainer = new_trainer("denoiser", stage, loss, batches)
        early = max(1, round(self.log.get("snapshot", 0) * self.steps_for(trainer)))
        scheduler = DPMSolverMultistepScheduler(**recipe.scheduler)
        recorded = ("data", "seed", "steps", "seconds", "hardware", "threads", "processes")
        # the log's own, to which training adds
        of_log = {key: self.log[key] for key in recorded if key in self.log}
        card = {
            "dataset": recipe.dataset,
            "image_size": recipe.image_size,
            "guidance_scale": recipe.guidance_scale,
            "num_inference_steps": recipe.num_inference_steps,
            "prediction_type": scheduler.config.prediction_type,
            **of_log,
        }
        pipeline = StableDiffusionPipeline(vae, text_encoder, tokenizer, unet, scheduler, card)

        def keep_early(step: int, ema: EMA | None) -> None:
            if "snapshot" in self.log and self.main and step + 1 == early:
                then = copy.deepcopy(pipeline)
                if ema is not None:
                    ema.copy_to([*then.unet.parameters(), *then.text_encoder.parameters()])
                then.card["snapshot"] = early
                then.save_pretrained(self.out / SNAPSHOT, torch.float16)

        trainer.after_step = keep_early
        self.run_stage(trainer, predict)
        return pipeline

    def run_stage(self, trainer: Trainer, model: nn.Module) -> None:
        """Train one stage, or read `model` from the folder if a run before this one finished the
        stage."""
        name = trainer.name
        file = self.out / f"{name}.safetensors"
        if name in self.log["seconds"]:
            load_weights(file, model)
            model.eval()
            return
        alone = name in ALONE
        losses = trainer.train(
            self.steps_for(trainer),
            folder=self.out if self.main or not alone else None,
            accelerator=None if alone else self.accelerator,
            progress=self.progress,
        )
        if self.main:
            write_tensors(file, model.state_dict())
        self.log["seconds"][name] = round(trainer.seconds, 1)
        self.log["losses"][name] = [round(loss, 6) for loss in losses]
        self.write_log()

    def steps_for(self, trainer: Trainer) -> int:
        """The stage's number of steps: the recorded one, or as many as fit into its time."""
        from accelerate.utils import broadcast_object_list

        name = trainer.name
        if name not in self.log["steps"]:
            seconds, device = self.seconds_for(name), self.accelerator.device
            sharing = 1 if name in ALONE else self.accelerator.num_processes
            steps: list[Any] = [trainer.steps_within(seconds, device, sharing)]
            self.log["steps"][name] = broadcast_object_list(steps)[0]
            self.write_log()
        return self.log["steps"][name]

    def seconds_for(self, name: str) -> float:
        """The stage's share of the time; the last stage's is all that is left."""
        left = 60 * self.log["minutes"] - (time.monotonic() - self.started)
        recipe = self.recipe
        stages = (recipe.perceptual_net, recipe.autoencoder, recipe.denoiser)
        shares = [stage.share for stage in stages[STAGES.index(name) :]]
        return left * shares[0] / sum(shares)

    def write_log(self) -> None:
        """Record how far the training has come."""
        if self.main:
            write_json(self.out / LOG_FILE, self.log)
