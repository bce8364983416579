"""One run: the whole chain trained from random weights, stage by stage, as a recipe says; stopped
and resumed at will. Chapter 11."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import nn

from minildm.data.datasets import LOADERS
from minildm.data.text_image import load_corpus
from minildm.device import default_device
from minildm.files import read_json, write_json, write_tensors
from minildm.models.autoencoder import AutoencoderKL, with_scaling_factor
from minildm.models.classifier import ImageClassifier, extract
from minildm.models.unet import UNet2DConditionModel
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline
from minildm.schedulers import DDPMScheduler, DPMSolverMultistepScheduler
from minildm.text.text_encoder import CLIPTextModel
from minildm.text.tokenizer import CLIPTokenizer
from minildm.training.objectives import (
    AutoencoderTask,
    ClassifierTask,
    DenoiserTask,
    autoencoder_batches,
    classifier_batches,
    denoiser_batches,
    encode_dataset,
)
from minildm.training.recipes import EXAMINERS, PRESETS, Recipe
from minildm.training.trainer import STATE_FILE, Stage

if TYPE_CHECKING:
    from accelerate import Accelerator

LOG_FILE = "training.json"
STAGES = ("critic", "autoencoder", "denoiser")


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
    """
    if isinstance(recipe, str):
        if recipe not in PRESETS:
            raise ValueError(f"expected a preset of {', '.join(PRESETS)}, got {recipe!r}")
        recipe = PRESETS[recipe]
    if steps is not None and (len(steps) != 3 or min(steps) < 1):
        raise ValueError(
            f"expected three positive numbers of steps (critic, autoencoder, denoiser), got {steps}"
        )
    if steps is None and (minutes is None or not minutes > 0):
        raise ValueError(f"expected minutes > 0, or steps, got {minutes}")
    run = Run(Path(out), recipe, seed, minutes, steps, resume, device, mixed_precision, progress)
    return run.train()


def train_examiner(
    out: Path | str,
    dataset: str = "mnist",
    steps: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> ImageClassifier:
    """Train the classifier that `evaluate` scores with, on changed training images; it is in no
    other training.

    dataset: one of EXAMINERS, whose number of steps is the default; all of CIFAR-10, which is not
    bundled. Beside the weights, in minildm.json, goes the accuracy on the test images.
    """
    recipe = dict(EXAMINERS[dataset])
    usual_steps, augment = recipe.pop("steps"), recipe.pop("augment")
    steps = steps or usual_steps
    options = {"full": True} if dataset == "cifar10" else {}
    images, labels, classes = LOADERS[dataset]("train", **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        examiner = ImageClassifier(images.shape[-1], images.shape[1], len(classes), **recipe)
    batches = classifier_batches("examiner", images, labels, 128, seed, augment)
    stage = Stage("examiner", ClassifierTask(examiner), batches, learning_rate=3e-3)
    stage.run(steps, progress=progress)
    test = LOADERS[dataset]("test", **options)
    accuracy = (extract(examiner, test.images)[1] == test.labels).float().mean().item()
    examiner.save_pretrained(out, torch.float16)
    write_json(
        Path(out) / "minildm.json",
        {"dataset": dataset, "steps": steps, "seed": seed, "accuracy": accuracy},
    )
    return examiner


class Run:
    """One training: where it writes, what it has recorded, how much time is left."""

    def __init__(
        self, out, recipe, seed, minutes, steps, resume, device, mixed_precision, progress
    ):
        from accelerate import Accelerator  # slow to import, and only training needs it
        from accelerate.utils import broadcast_object_list

        chosen = default_device(device)
        self.accelerator: Accelerator = Accelerator(
            cpu=chosen.type == "cpu", mixed_precision=mixed_precision
        )
        elsewhere = device != "auto" and chosen.type != self.accelerator.device.type
        if elsewhere or chosen.index is not None:  # accelerate says which GPU a process takes
            raise ValueError(
                f"expected a device that is here (auto or {self.accelerator.device.type}), got {device!r}"
            )
        self.main = self.accelerator.is_main_process
        self.progress = progress and self.main
        if any(size % self.accelerator.num_processes for size in recipe.batch_sizes[1:]):
            raise ValueError(
                f"expected a number of processes that divides the batches of {recipe.batch_sizes[1:]}, "
                f"got {self.accelerator.num_processes}"
            )
        self.out, self.recipe, self.seed = out, recipe, seed
        steps = dict(zip(STAGES, steps, strict=True)) if steps else {}
        log = [
            self.open_log(resume, {"minutes": None if steps else minutes, "steps": steps})
            if self.main
            else None
        ]
        self.log: dict[str, Any] = broadcast_object_list(log)[0]

    def open_log(self, resume: bool, new: dict[str, Any]) -> dict[str, Any]:
        """The record of this run: the one in the folder if it is to be resumed, else a new one."""
        asked = {"recipe": json.loads(json.dumps(asdict(self.recipe))), "seed": self.seed}
        file = self.out / LOG_FILE
        if not file.is_file():
            self.out.mkdir(parents=True, exist_ok=True)
            surroundings = {
                "hardware": hardware(self.accelerator.device),
                "threads": torch.get_num_threads(),
                "processes": self.accelerator.num_processes,
                "torch": torch.__version__,
            }
            return {**asked, **new, "seconds": {}, "losses": {}, **surroundings, "finished": False}
        if not resume:
            raise ValueError(
                f"{self.out} holds a training already: --resume goes on with it, another --out begins one"
            )
        log = read_json(file, "the record of a training")
        if missing := {*asked, *new, "seconds", "losses", "threads", "finished"} - log.keys():
            raise ValueError(
                f"{file}: expected the record of a training, got one without {', '.join(sorted(missing))}"
            )
        if log["seed"] != self.seed:
            raise ValueError(f"{file}: expected to go on with seed {log['seed']}, got {self.seed}")
        theirs, ours = log["recipe"], asked["recipe"]
        if other := sorted(key for key in theirs | ours if theirs.get(key) != ours.get(key)):
            raise ValueError(
                f"{file}: expected a training of this recipe, got one with another {', '.join(other)}"
            )
        if new["steps"] not in ({}, log["steps"]):
            recorded = ",".join(map(str, log["steps"].values())) or "none yet"
            raise ValueError(
                f"{file}: expected the recorded steps ({recorded}) or none, to go on; got other steps"
            )
        if log["threads"] != torch.get_num_threads():
            raise ValueError(
                f"{file}: expected {log['threads']} threads as before, got {torch.get_num_threads()}, whose sums round "
                f"differently (set OMP_NUM_THREADS={log['threads']})"
            )
        return log

    def write_log(self) -> None:
        if self.main:
            write_json(self.out / LOG_FILE, self.log)

    def train(self) -> StableDiffusionPipeline:
        if self.log["finished"]:
            return StableDiffusionPipeline.from_pretrained(self.out)
        recipe = self.recipe
        corpus = load_corpus(
            recipe.dataset, recipe.num_images, recipe.vae["sample_size"], self.progress, recipe.full
        )
        images = corpus.images
        self.started = time.monotonic() - sum(self.log["seconds"].values())

        critic = self.new(ImageClassifier, recipe.critic)
        batches = classifier_batches(
            "critic", images, corpus.labels, recipe.batch_sizes[0], self.seed
        )
        self.run_stage(
            Stage("critic", ClassifierTask(critic), batches, recipe.learning_rates[0]), critic
        )

        vae = self.new(AutoencoderKL, recipe.vae)
        side = images.shape[-1] // vae.downscale_factor
        latent_shape = (vae.config.latent_channels, side, side)
        batches = autoencoder_batches(images, latent_shape, recipe.batch_sizes[1], self.seed)
        task = AutoencoderTask(vae, critic, recipe.perceptual_weight, recipe.kl_weight)
        self.run_stage(Stage("autoencoder", task, batches, recipe.learning_rates[1]), vae)

        mean, std = encode_dataset(vae, images, self.progress)
        vae = with_scaling_factor(vae, 1 / (mean.var() + std.square().mean()).sqrt().item())
        mean, std = mean * vae.config.scaling_factor, std * vae.config.scaling_factor

        length = recipe.text_encoder["max_position_embeddings"]
        tokenizer = CLIPTokenizer.train(corpus.texts, model_max_length=length)
        ids = {
            key: getattr(tokenizer, key)
            for key in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
        }
        text_encoder = self.new(CLIPTextModel, {**recipe.text_encoder, **ids})
        channels = {
            "in_channels": vae.config.latent_channels,
            "out_channels": vae.config.latent_channels,
        }
        width = text_encoder.config.hidden_size
        unet = self.new(
            UNet2DConditionModel, {**recipe.unet, **channels, "cross_attention_dim": width}
        )
        prompts = (
            [tokenizer(texts) for texts in corpus.captions],
            tokenizer("")[0],
            recipe.prompt_dropout,
        )
        batches = denoiser_batches(
            mean, std, corpus.caption_of, *prompts, recipe.batch_sizes[2], self.seed
        )
        task = DenoiserTask(unet, text_encoder, DDPMScheduler(**recipe.scheduler))
        self.run_stage(
            Stage("denoiser", task, batches, recipe.learning_rates[2], ema=recipe.ema), task
        )

        scheduler = DPMSolverMultistepScheduler(**recipe.scheduler)
        card = {
            "dataset": recipe.dataset,
            "image_size": recipe.image_size,
            "guidance_scale": recipe.guidance_scale,
            "num_inference_steps": recipe.num_inference_steps,
            "prediction_type": scheduler.config.prediction_type,
            **{
                key: self.log[key]
                for key in ("seed", "steps", "seconds", "hardware", "threads", "processes")
            },
        }
        pipeline = StableDiffusionPipeline(vae, text_encoder, tokenizer, unet, scheduler, card)
        if self.main:
            pipeline.save_pretrained(self.out)
            self.log["finished"] = True
            self.write_log()
            for file in (STATE_FILE, *(f"{name}.safetensors" for name in STAGES)):
                (self.out / file).unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        return pipeline

    def new(self, model: type, config: dict) -> Any:
        """A model with random weights that the seed alone determines."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return model(**config)

    def run_stage(self, stage: Stage, model: nn.Module) -> None:
        """Train one stage, or read `model` from the folder if a run before this one finished the
        stage."""
        from accelerate.utils import broadcast_object_list

        name, file = stage.name, self.out / f"{stage.name}.safetensors"
        if name in self.log["seconds"]:
            model.load_state_dict(load_file(file))
            model.eval()
            return
        if name not in self.log["steps"]:
            steps = [stage.steps_within(self.seconds_for(name), self.accelerator.device)]
            self.log["steps"][name] = broadcast_object_list(steps)[0]
            self.write_log()
        # Batch normalisation needs the whole batch: every process trains the same small critic, not
        # a share of it.
        alone = name == "critic"
        folder = self.out if self.main or not alone else None
        losses = stage.run(
            self.log["steps"][name], folder, None if alone else self.accelerator, self.progress
        )
        if self.main:
            write_tensors(file, model.state_dict())
        self.log["seconds"][name] = round(stage.seconds, 1)
        self.log["losses"][name] = [round(loss, 6) for loss in losses]
        self.write_log()

    def seconds_for(self, name: str) -> float:
        """The stage's share of the time; the last stage's is all that is left."""
        left = 60 * self.log["minutes"] - (time.monotonic() - self.started)
        shares = self.recipe.shares[STAGES.index(name) :]
        return left * shares[0] / sum(shares)


def hardware(device: torch.device) -> str:
    """The processor or the accelerator, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
