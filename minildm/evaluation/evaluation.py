"""How well does a model draw what it is asked for? The one way in which every score of the course
is taken. Chapter 12.

Prompts are balanced over the classes and go through all phrasings; the pictures are scored as they
would be saved, in 8 bits at the data's own size; beside each score stands its floor, that of as
many real images. Scenes are scored by kind of prompt, beside real scenes with the very same
captions: what the scorer misreads there, no model can be blamed for.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from minildm.data.captions import captions_for
from minildm.data.datasets import LOADERS, load_images, mnist
from minildm.data.images import from_pixels, to_pixels
from minildm.data.scene_captions import Attributes, write_captions
from minildm.data.scenes import DigitScenes, sample_attributes
from minildm.evaluation.metrics import Scores, balanced_subset, score
from minildm.evaluation.scene_metrics import ScoresByKind, score_scenes
from minildm.models.classifier import ImageClassifier, extract
from minildm.pipelines.checkpoints import shipped
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline
from minildm.schedulers.samplers import sampler_name

# The kinds of prompt for scenes: the split they are drawn from, and how many digits they speak of.
KINDS = {
    "one digit": ("seen", 1),
    "one digit, new colour": ("held_out_colour", 1),
    "one digit, new place": ("held_out_place", 1),
    "two digits": ("seen", 2),
    "two digits, new colour": ("held_out_colour", 2),
}

S = TypeVar("S", Scores, ScoresByKind)


@dataclass(frozen=True)
class Sampling:
    """How pictures were drawn: all that a reader needs in order to draw them again, and what it
    took."""

    samples: int
    """Of each kind, where there are kinds."""
    seed: int
    sampler: str
    num_inference_steps: int
    guidance_scale: float
    guidance_start: float
    seconds: float
    """What drawing took, text and decoder included."""
    device: str
    parameters: dict[str, int]
    """Of each network."""
    autoguidance_scale: float = 1.0
    """How far from the bad guide; 1: there was none."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for a JSON file or a model's card."""
        plain = asdict(self)
        if plain["autoguidance_scale"] == 1:
            del plain["autoguidance_scale"]  # the rule, of which cards say nothing
        return plain

    def rows(self, unit: str) -> list[str]:
        """Two lines under a table of scores. unit: what `samples` counts."""
        begun = f" from {self.guidance_start:.0%} of the steps on" if self.guidance_start else ""
        if self.autoguidance_scale > 1:
            begun = f" and autoguidance {self.autoguidance_scale:g}{begun}"
        counts = ", ".join(f"{name} {count:,}" for name, count in self.parameters.items())
        return [
            f"{self.samples} {unit}, seed {self.seed}: {self.num_inference_steps} steps of "
            f"{self.sampler}, guidance {self.guidance_scale:g}{begun}, {self.seconds:.1f} s on "
            f"{self.device}",
            f"{sum(self.parameters.values()):,} parameters ({counts})",
        ]


@dataclass(frozen=True)
class Evaluation(Generic[S]):
    """The scores of drawn pictures, those of real ones, and how the pictures were drawn."""

    scores: S
    floor: S
    """Those of as many real images: of the training set, balanced over the classes; or scenes,
    painted from the test digits for the same captions."""
    sampling: Sampling

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for a JSON file or a model's card."""
        plain = asdict(self)
        del plain["sampling"]
        return plain | self.sampling.as_dict()

    def __str__(self) -> str:
        return "\n".join([*self.scores.rows(self.floor), *self.sampling.rows(self.scores.UNIT)])


def evaluate(
    pipeline: StableDiffusionPipeline,
    samples: int = 1000,
    seed: int = 0,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    guidance_start: float | None = None,
    examiner: ImageClassifier | None = None,
    progress: bool = True,
    full: bool = False,
) -> Evaluation[Scores] | Evaluation[ScoresByKind]:
    """Draw `samples` pictures, a multiple of the classes, and score them against the test images of
    the card's data.

    num_inference_steps, guidance_scale, guidance_start: as in a call of the pipeline. examiner: the
    shipped one if not given; Fashion-MNIST has none. full: beside all of CIFAR-10, not its bundled
    tenth, which makes another distance and another floor. Scenes are scored by what is in them
    (`evaluate_scenes`).
    """
    dataset = pipeline.card.get("dataset")
    if dataset not in (*LOADERS, "scenes"):
        known = ", ".join((*LOADERS, "scenes"))
        raise ValueError(
            f"expected a model whose card (minildm.json) names a dataset of {known}, "
            f"got {dataset!r}; own pictures are scored with --data (evaluate_pictures)"
        )
    steps = pipeline.default("num_inference_steps", num_inference_steps)
    scale, start = pipeline.guidance(guidance_scale, guidance_start)
    if examiner is None:
        name = "mnist" if dataset == "scenes" else dataset
        if dataset == "fashion_mnist":
            raise ValueError(
                "expected an examiner for fashion_mnist, of which none is shipped: "
                "training.train_examiner makes one"
            )
        examiner = ImageClassifier.from_pretrained(shipped(f"{name}-examiner"))
    if dataset == "scenes":
        return evaluate_scenes(pipeline, samples, seed, steps, scale, examiner, progress, start)

    train, test = load_images(dataset, "train", full), load_images(dataset, "test", full)
    if dataset == "cifar10" and not full and samples > len(train.labels):
        raise ValueError(
            f"expected at most {len(train.labels)} samples beside the bundled photographs, "
            f"got {samples}; beside all of CIFAR-10: --full"
        )
    chosen = balanced_subset(train.labels, samples, len(train.classes))
    prompts, labels = balanced_prompts(dataset, samples, len(train.classes))
    images, seconds = sample_as_saved(
        pipeline,
        prompts,
        num_inference_steps=steps,
        guidance_scale=scale,
        guidance_start=start,
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
        size=train.images.shape[-1],
    )
    reference, _ = extract(examiner, test.images)
    return Evaluation(
        scores=score(examiner, images, labels, reference),
        floor=score(examiner, train.images[chosen], train.labels[chosen], reference),
        sampling=describe_sampling(pipeline, samples, seed, steps, scale, start, seconds),
    )


def evaluate_scenes(
    pipeline: StableDiffusionPipeline,
    samples: int,
    seed: int,
    num_inference_steps: int,
    guidance_scale: float,
    examiner: ImageClassifier,
    progress: bool = True,
    guidance_start: float = 0.0,
) -> Evaluation[ScoresByKind]:
    """Does a model draw what a caption says, and what no caption of its training ever said? Draw
    `samples` // 5 pictures of each of the five KINDS of prompt, and read them. The examiner:
    MNIST's. Chapter 09."""
    each = samples // len(KINDS)
    if each < 1 or samples % len(KINDS):
        raise ValueError(
            f"expected a number of samples that is a multiple of {len(KINDS)} kinds, got {samples}"
        )
    real, generator = DigitScenes(mnist("test")), torch.Generator().manual_seed(seed)
    scores, floor, seconds = ScoresByKind(), ScoresByKind(), 0.0
    for kind in KINDS:
        prompts, asked = scene_prompts(kind, each, seed)
        images, took = sample_as_saved(
            pipeline,
            prompts,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            guidance_start=guidance_start,
            generator=generator,
            progress=progress,
        )
        seconds += took
        scores[kind] = score_scenes(examiner, images, asked)
        floor[kind] = score_scenes(examiner, real.draw(asked, generator).images, asked)
    return Evaluation(
        scores=scores,
        floor=floor,
        sampling=describe_sampling(
            pipeline, each, seed, num_inference_steps, guidance_scale, guidance_start, seconds
        ),
    )


def sample_as_saved(
    pipeline: StableDiffusionPipeline,
    prompts: list[str],
    num_inference_steps: int,
    guidance_scale: float,
    generator: torch.Generator,
    progress: bool = True,
    size: int | None = None,
    guidance_start: float = 0.0,
) -> tuple[Tensor, float]:
    """A picture of each prompt as it would be saved, in 8 bits at `size`: (N, C, size, size) in
    [-1, 1]; and the seconds that drawing them took, text and decoder included."""
    start = time.perf_counter()
    images = pipeline(
        prompts,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        guidance_start=guidance_start,
        generator=generator,
        progress=progress,
    )
    seconds = time.perf_counter() - start
    return from_pixels(to_pixels(images, size)), seconds


def describe_sampling(
    pipeline: StableDiffusionPipeline,
    samples: int,
    seed: int,
    num_inference_steps: int,
    guidance_scale: float,
    guidance_start: float,
    seconds: float,
) -> Sampling:
    """The record of pictures that this pipeline has drawn."""
    networks = {"unet": pipeline.unet, "vae": pipeline.vae, "text_encoder": pipeline.text_encoder}
    return Sampling(
        samples=samples,
        seed=seed,
        sampler=sampler_name(pipeline.scheduler),
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        guidance_start=guidance_start,
        seconds=seconds,
        device=str(pipeline.device),
        parameters={
            name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()
        },
        autoguidance_scale=getattr(pipeline, "autoguidance_scale", 1.0),
    )


def balanced_prompts(dataset: str, samples: int, num_classes: int = 10) -> tuple[list[str], Tensor]:
    """`samples` prompts, class by class in turn, the next phrasing each time round, and their
    labels (samples,)."""
    if samples < 1 or samples % num_classes:
        raise ValueError(
            f"expected a number of samples that is a multiple of the {num_classes} classes, "
            f"got {samples}"
        )
    phrasings = [captions_for(dataset, label) for label in range(num_classes)]
    labels = torch.arange(samples) % num_classes
    prompts = []
    for i, label in enumerate(labels.tolist()):
        turn = i // num_classes
        prompts.append(phrasings[label][turn % len(phrasings[label])])
    return prompts, labels


def scene_prompts(kind: str, samples: int, seed: int) -> tuple[list[str], Attributes]:
    """`samples` captions of one of the KINDS in the plain phrasing, and the attributes that they
    ask for."""
    split, count = KINDS[kind]
    attributes = sample_attributes(samples, torch.Generator().manual_seed(seed), split, count)
    return write_captions(attributes), attributes
