"""How good are the pictures? Distances between sets of pictures, in the features of an examiner
that was never trained against (Heusel et al. 2017; Bińkowski et al. 2018; Kynkäänniemi et al.
2019). Chapters 01 and 12.

Every score stands beside its *floor*: the score that as many real training images get against the
same test images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from minildm.models.classifier import ImageClassifier, extract

# Tables of all pairs are made some rows at a time: whole, 10,000 x 10,000 would take gigabytes, and
# a piece of less than 32 MB is memory that the allocator keeps and hands out again, where a larger
# one is asked of the system anew.
PIECE = 100
EXACT = "donot_use_mm_for_euclid_dist"  # torch's name for distances from differences


@dataclass(frozen=True)
class Scores:
    """What `score` measures of a set of pictures against a reference set; fractions in [0, 1]."""

    UNIT: ClassVar[str] = "samples"
    """What the number of samples under a table counts."""

    accuracy: float | None
    """Fraction that the examiner takes for what the prompt asked; None: nobody can tell."""
    frechet: float
    """Fréchet distance of the features: 0 for the same mean and covariance."""
    kernel: float
    """Kernel distance (KID): unbiased, around 0 for the same distribution."""
    precision: float
    """Fraction of the pictures that lie among real ones: are they good?"""
    recall: float
    """Fraction of the real ones that lie among the pictures: are they all there?"""

    def rows(self, floor: Scores) -> list[str]:
        """A table's lines: each score, that of real images, and how many times as large the
        distance is."""
        ratio = f"{self.frechet / floor.frechet:.2f} x" if floor.frechet else ""
        right = []
        if self.accuracy is not None and floor.accuracy is not None:
            right = [_row("prompt accuracy", self.accuracy, floor.accuracy, ".2%")]
        return [
            f"{'':18}{'drawn':>12}{'real (floor)':>14}{'ratio':>9}",
            *right,
            _row("Fréchet distance", self.frechet, floor.frechet, ".3f", ratio),
            _row("kernel distance", self.kernel, floor.kernel, ".5f"),
            _row("precision", self.precision, floor.precision, ".3f"),
            _row("recall", self.recall, floor.recall, ".3f"),
        ]


def _row(name: str, drawn: float, real: float, form: str, ratio: str = "") -> str:
    return f"{name:18}{drawn:>12{form}}{real:>14{form}}{ratio:>9}"


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2(Σ_a Σ_b)^½) of features (N, D) and (M, D).

    Heusel et al. 2017, eq. 6. It falls with the number of samples, so compare sets of one
    size. N, M > 1.
    """
    a, b = _check(a, b)
    difference = a.mean(0) - b.mean(0)
    dim = a.shape[1]
    cov_a = a.T.cov().reshape(dim, dim)  # of one feature, cov gives a number
    cov_b = b.T.cov().reshape(dim, dim)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # Σ_a Σ_b has the eigenvalues of the symmetric Σ_a^½ Σ_b Σ_a^½, whose roots are real and stable
    # to compute.
    trace_root = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return (difference.square().sum() + cov_a.trace() + cov_b.trace() - 2 * trace_root).item()


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared MMD with the kernel (x·y / D + 1)³ of features (N, D) and (M, D).

    Bińkowski et al. 2018.
    """
    a, b = _check(a, b)

    def total(x: Tensor, y: Tensor) -> float:
        return sum((piece @ y.T / x.shape[1] + 1).pow(3).sum().item() for piece in x.split(PIECE))

    def mean_of_others(x: Tensor) -> float:  # a picture's kernel with itself would bias the mean
        itself = (x.square().sum(1) / x.shape[1] + 1).pow(3).sum().item()
        return (total(x, x) - itself) / (len(x) * (len(x) - 1))

    return mean_of_others(a) + mean_of_others(b) - 2 * total(a, b) / (len(a) * len(b))


def precision_recall(real: Tensor, generated: Tensor, k: int = 3) -> tuple[float, float]:
    """The fraction of `generated` features (M, D) inside the manifold of the `real` ones (N, D),
    and the reverse.

    A set's manifold is the union of balls around its points that reach to their k-th neighbour;
    Kynkäänniemi et al. 2019, eq. 1; a point on the rim of a ball is inside. N, M > k.
    """
    real, generated = _check(real, generated, least=k + 1)
    centre = real.mean(0)  # what all features share would take digits from their distances
    real, generated = real - centre, generated - centre
    rim = _blur(real, generated)

    def squares(x: Tensor, others: Tensor) -> Tensor:
        return torch.cdist(x, others).square()

    def inside(points: Tensor, others: Tensor) -> float:
        nearest = [squares(x, others).topk(k + 1, largest=False) for x in others.split(PIECE)]
        radius = torch.cat([found.values for found in nearest])[:, k]
        hits = [(squares(x, others) <= radius + rim).any(1) for x in points.split(PIECE)]
        return torch.cat(hits).sum().item() / len(points)

    return inside(generated, real), inside(real, generated)


class Modes(NamedTuple):
    """Which kinds of real pictures are drawn too often or too rarely; fractions of all bins."""

    different: float
    """Bins whose share is not that of real pictures, beyond chance: about 0.05 for the same
    distribution."""
    missing: float
    """Bins that get less than a quarter of their share."""


def mode_coverage(real: Tensor, generated: Tensor, bins: int = 50, seed: int = 0) -> Modes:
    """Are all kinds of pictures drawn, and as often as they should be? Features (N, D) and (M, D)
    -> Modes.

    The real ones are put into bins around `bins` centres (k-means), the generated ones into the
    nearest; a bin differs if its two shares do by a two-sided z-test at 5 %; the "number of
    statistically different bins" of Richardson & Weiss 2018, as a fraction.
    """
    real, generated = _check(real, generated, least=bins)
    centres = real[torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))[:bins]]
    for _ in range(20):
        nearest = torch.cdist(real, centres, compute_mode=EXACT).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, real)
        counts = nearest.bincount(minlength=bins)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
    p, q = (
        torch.cdist(x, centres, compute_mode=EXACT).argmin(1).bincount(minlength=bins) / len(x)
        for x in (real, generated)
    )
    pooled = (p * len(real) + q * len(generated)) / (len(real) + len(generated))
    error = (pooled * (1 - pooled) * (1 / len(real) + 1 / len(generated))).sqrt()
    different = (p - q).abs() > 1.96 * error
    return Modes(different.double().mean().item(), (q < p / 4).double().mean().item())


def nearest_images(images: Tensor, training_images: Tensor) -> tuple[Tensor, Tensor]:
    """For each image (N, C, H, W) the nearest of the training images (M, C, H, W): its root mean
    square distance per pixel and its index, both (N,); the first of several. A copy has distance
    0."""
    if images.shape[1:] != training_images.shape[1:] or not len(training_images):
        raise ValueError(
            "expected images of the training images' shape "
            f"{tuple(training_images.shape[1:])} and at least one of those, "
            f"got {tuple(images.shape[1:])} and {len(training_images)}"
        )
    kind = torch.promote_types(images.dtype, training_images.dtype)
    kind = torch.promote_types(kind, torch.float32)
    a, b = images.flatten(1).to(kind), training_images.flatten(1).to(kind)
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("expected finite images, got some with NaN or infinity")
    squares = b.square().sum(1)
    distances, indices = [], []
    for x in a.split(PIECE):
        # ‖x - b‖² but for ‖x‖², by a product: quick, and blurred by rounding. So it only says which
        # can be the nearest; their differences decide.
        rough = torch.addmm(squares, x, b.T, alpha=-2)
        possible = rough <= rough.amin(1, keepdim=True) + _blur(x, b)
        for image, candidates in zip(x, possible, strict=True):
            which = candidates.nonzero()[:, 0]
            own = image.cpu().double()  # not every device has float64
            parts = [(b[some].cpu().double() - own).square().sum(1) for some in which.split(PIECE)]
            nearest = torch.cat(parts).min(0)
            distances.append((nearest.values / a.shape[1]).sqrt())
            indices.append(which[nearest.indices])
    return torch.stack(distances).to(a), torch.stack(indices)


def nearest_distances(images: Tensor, training_images: Tensor) -> Tensor:
    """The distances of `nearest_images` alone, (N,)."""
    return nearest_images(images, training_images)[0]


def score(
    examiner: ImageClassifier, images: Tensor, labels: Tensor | None, reference: Tensor
) -> Scores:
    """All scores of images (N, C, H, W) in [-1, 1], drawn from prompts of the classes `labels`
    (N,), if there are any, against the `reference` features (M, D) of real test images."""
    if labels is not None and labels.shape != (len(images),):
        got = tuple(labels.shape)
        raise ValueError(f"expected a label for each of {len(images)} images, got {got}")
    features, predicted = extract(examiner, images)
    accuracy = None if labels is None else (predicted == labels).float().mean().item()
    precision, recall = precision_recall(reference, features)
    return Scores(
        accuracy=accuracy,
        frechet=frechet_distance(features, reference),
        kernel=kernel_distance(features, reference),
        precision=precision,
        recall=recall,
    )


def balanced_subset(labels: Tensor, size: int, num_classes: int = 10) -> Tensor:
    """Indices (size,) of the first `size / num_classes` images of every class, class by class in
    turn."""
    if size < 1 or size % num_classes:
        raise ValueError(
            f"expected a number of samples that is a multiple of the {num_classes} classes, "
            f"got {size}"
        )
    per_class = [(labels == c).nonzero()[: size // num_classes, 0] for c in range(num_classes)]
    fewest = min(map(len, per_class))
    if fewest < size // num_classes:
        raise ValueError(
            f"expected {size // num_classes} images of every class, got {fewest} of one"
        )
    return torch.stack(per_class, 1).flatten()


def _blur(a: Tensor, b: Tensor) -> Tensor:
    """What rounding can do at most to the difference of two squared distances between rows (N, D)
    and (M, D) that are made of products, ‖x‖² - 2·x·y + ‖y‖²; ()."""
    reach = a.norm(dim=1).max() + b.norm(dim=1).max()
    return 4 * (a.shape[1] + 3) * torch.finfo(a.dtype).eps * reach.square()


def _check(a: Tensor, b: Tensor, least: int = 2) -> tuple[Tensor, Tensor]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < least:
        raise ValueError(
            f"expected features (N, D) and (M, D) of at least {least} pictures, "
            f"got {tuple(a.shape)}, {tuple(b.shape)}"
        )
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError(
            "expected finite features, got some that are not: "
            "look at the pictures they were taken of"
        )
    return a.cpu().double(), b.cpu().double()  # not every device has float64
