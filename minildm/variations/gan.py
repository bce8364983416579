"""A generative adversarial network, told the class to draw: one network makes pictures, another
tells them from real ones, and each is the other's loss (Goodfellow et al. 2014). Chapter 13.

What makes the game end well: a discriminator whose slope at real pictures is kept small (R1;
Mescheder et al. 2018) or whose every layer is (spectral normalisation; Miyato et al. 2018), a
discriminator that is told the class by a projection (Miyato & Koyama 2018), and an average of the
generator's weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as spectrally_normalised
from tqdm.auto import tqdm

from minildm.configuration.mixins import ModelMixin, register_to_config
from minildm.models.embeddings import rows_of
from minildm.models.resnet import ResnetBlock2D
from minildm.training.batches import batch_indices, check_range, step_generator
from minildm.training.losses import discriminator_loss, generator_loss
from minildm.training.state import EMA


class GANGenerator(ModelMixin, nn.Module):
    """Noise and a class become a picture.

    z (B, latent_dim), labels (B,) -> (B, out_channels, sample_size, sample_size) in [-1, 1].

    A vector made of both tells every residual block what to draw, as the time tells those of the
    U-Net; between blocks the picture is doubled, and once more by the last layer: at full size
    nothing else is computed, which is most of what makes a step cheap. block_out_channels: fine to
    coarse; the coarsest is sample_size / 2^blocks wide.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        out_channels: int = 1,
        num_classes: int = 10,
        latent_dim: int = 64,
        block_out_channels: tuple[int, ...] = (32, 64, 128),
        norm_num_groups: int = 8,
    ):
        super().__init__()
        widths = tuple(reversed(block_out_channels))
        self.side = coarsest_side(sample_size, len(widths))
        self.class_embedding = nn.Embedding(num_classes, latent_dim)
        self.style = nn.Sequential(nn.Linear(2 * latent_dim, 2 * latent_dim), nn.SiLU())
        self.begin = nn.Linear(latent_dim, widths[0] * self.side**2)
        self.blocks = nn.ModuleList(
            ResnetBlock2D(a, b, 2 * latent_dim, norm_num_groups)
            for a, b in zip((widths[0], *widths[:-1]), widths, strict=True)
        )
        self.norm = nn.GroupNorm(norm_num_groups, widths[-1])
        self.conv_out = nn.ConvTranspose2d(widths[-1], out_channels, 4, stride=2, padding=1)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        dim = self.config.latent_dim
        if z.ndim != 2 or z.shape[1] != dim or labels.shape != z.shape[:1]:
            raise ValueError(
                f"expected z (B, {dim}) and labels (B,), "
                f"got {tuple(z.shape)} and {tuple(labels.shape)}"
            )
        style = self.style(torch.cat([z, rows_of(self.class_embedding, labels, "labels")], 1))
        x = self.begin(z).unflatten(1, (-1, self.side, self.side))
        x = x.contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.blocks):
            x = block(F.interpolate(x, scale_factor=2.0) if i else x, style)
        return self.conv_out(F.silu(self.norm(x))).tanh()


class DiscriminatorBlock(nn.Module):
    """A residual block that halves the picture, without normalisation, which would let one picture
    of a batch answer for another. (B, in_channels, H, W) -> (B, out_channels, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.leaky_relu(x, 0.2))
        h = self.conv2(F.leaky_relu(h, 0.2))
        shortcut = self.conv_shortcut(F.avg_pool2d(x, 2))
        return (F.avg_pool2d(h, 2) + shortcut) / 2**0.5  # keeps the variance


class GANDiscriminator(ModelMixin, nn.Module):
    """Real, and of this class? images (B, in_channels, size, size), labels (B,) -> logits (B,).

    The features φ answer both: w·φ + e_y·φ, the projection of Miyato & Koyama 2018, eq. 5.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        in_channels: int = 1,
        num_classes: int = 10,
        block_out_channels: tuple[int, ...] = (32, 64, 128),
        spectral_norm: bool = False,
    ):
        super().__init__()
        widths = block_out_channels
        side = coarsest_side(sample_size, len(widths))
        self.conv_in = nn.Conv2d(in_channels, widths[0], 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.project = nn.Linear(widths[-1] * side**2, widths[-1])
        self.judge = nn.Linear(widths[-1], 1)
        self.class_embedding = nn.Embedding(num_classes, widths[-1])
        nn.init.normal_(self.class_embedding.weight, std=widths[-1] ** -0.5)
        if spectral_norm:
            kinds = nn.Conv2d | nn.Linear | nn.Embedding
            for layer in [module for module in self.modules() if isinstance(module, kinds)]:
                spectrally_normalised(layer)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        channels, size = self.config.in_channels, self.config.sample_size
        if images.shape[1:] != (channels, size, size) or labels.shape != images.shape[:1]:
            raise ValueError(
                f"expected images (B, {channels}, {size}, {size}) and labels (B,), "
                f"got {tuple(images.shape)} and {tuple(labels.shape)}"
            )
        x = self.conv_in(images.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        features = F.leaky_relu(self.project(F.leaky_relu(x, 0.2).flatten(1)), 0.2)
        return self.judge(features)[:, 0] + (
            rows_of(self.class_embedding, labels, "labels") * features
        ).sum(1)


def coarsest_side(sample_size: int, blocks: int) -> int:
    """How wide the picture is where it is smallest."""
    side, rest = divmod(sample_size, 2**blocks)
    if rest or not side:
        raise ValueError(f"expected a sample_size that {blocks} halvings divide, got {sample_size}")
    return side


# The game


def r1_penalty(
    discriminator: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor
) -> Tensor:
    """The mean squared length of the discriminator's slope at real pictures (B, C, H, W) -> ();
    Mescheder et al. 2018, eq. 9 without its γ/2."""
    images = images.detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(images, labels).sum(), images, create_graph=True)
    return slope.square().flatten(1).sum(1).mean()


@dataclass
class GANTraining:
    """How both play. `run` may be called again and again: it goes on where it was, each step seeded
    by its number."""

    generator: GANGenerator
    discriminator: GANDiscriminator
    images: Tensor
    labels: Tensor
    seed: int = 0
    batch_size: int = 32
    learning_rates: tuple[float, float] = (1e-3, 1e-3)
    """Of generator and discriminator."""
    betas: tuple[float, float] = (0.0, 0.99)
    loss: str = "non_saturating"
    r1: float = 1.0
    """γ of the penalty γ/2·‖slope‖²; 0 for none."""
    r1_every: int = 8
    """The penalty is taken every so many steps, times as many (Karras et al. 2020, appendix B)."""
    ema: float = 100.0
    """Over so many steps the average of the generator's weights reaches."""
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    """Changes real pictures a little, as `shift_and_mirror` does."""
    step: int = 0
    seconds: float = 0.0
    """CPU time so far."""
    losses: list[tuple[float, float]] = field(default_factory=list)
    """Of discriminator and generator, every step."""

    def __post_init__(self):
        known = self.generator.config.num_classes
        if (
            self.labels.shape != self.images.shape[:1]
            or not 0 <= self.labels.min() <= self.labels.max() < known
        ):
            told = f"{tuple(self.labels.shape)} from {self.labels.min():g} to {self.labels.max():g}"
            raise ValueError(
                f"expected a label below {known} for each of {len(self.images)} images, got {told}"
            )
        if self.r1 < 0 or self.r1_every < 1:
            raise ValueError(
                f"expected r1 >= 0, taken every step or fewer, got {self.r1:g} and {self.r1_every}"
            )
        check_range(self.images)
        networks = self.generator, self.discriminator
        self.optimizers = []
        for network, rate in zip(networks, self.learning_rates, strict=True):
            parameters = network.to(memory_format=torch.channels_last).parameters()
            self.optimizers.append(torch.optim.Adam(parameters, rate, self.betas, fused=True))
        self.average = EMA(self.generator.parameters(), self.ema)

    def run(
        self, steps: int | None = None, seconds: float | None = None, progress: bool = True
    ) -> GANTraining:
        """Play so many steps more, or until so many seconds of CPU time more are over, whichever
        comes first."""
        if steps is None and seconds is None:
            raise ValueError("expected steps or seconds, got neither")
        last = None if steps is None else self.step + steps
        end = float("inf") if seconds is None else self.seconds + seconds
        self.generator.train()
        self.discriminator.train()
        with tqdm(total=steps, desc="gan", disable=not progress) as bar:
            while self.step != last and self.seconds < end:
                start = time.process_time()
                self.losses.append(self.play())
                self.step += 1
                self.seconds += time.process_time() - start
                bar.set_postfix(discriminator=f"{self.losses[-1][0]:.3f}", refresh=False)
                bar.update()
        return self

    def play(self) -> tuple[float, float]:
        """One step of the discriminator and one of the generator; the loss of each."""
        random = step_generator(self.seed, "gan", self.step)
        index = batch_indices(len(self.images), self.batch_size, self.seed, "gan", self.step)
        real, labels = self.images[index], self.labels[index]
        real = self.augment(real, random) if self.augment else real
        z = torch.randn(self.batch_size, self.generator.config.latent_dim, generator=random)

        fake = self.generator(z, labels)
        both = self.discriminator(torch.cat([real, fake.detach()]), labels.repeat(2))
        real_logits, fake_logits = both.chunk(2)
        discriminator_part = discriminator_loss(real_logits, fake_logits, kind=self.loss)
        total = discriminator_part
        if self.r1 and self.step % self.r1_every == 0:
            penalty = r1_penalty(self.discriminator, real, labels)
            total = discriminator_part + self.r1 / 2 * self.r1_every * penalty
        descend(self.optimizers[1], total)

        self.discriminator.requires_grad_(False)  # it judges, it does not learn
        generator_part = generator_loss(self.discriminator(fake, labels), kind=self.loss)
        descend(self.optimizers[0], generator_part)
        self.discriminator.requires_grad_(True)
        self.average.update(self.step)
        if not torch.isfinite(total + generator_part):
            raise ValueError(
                f"step {self.step}: a loss is not finite; try lower learning rates or a larger r1"
            )
        return discriminator_part.item(), generator_part.item()

    def averaged(self) -> GANGenerator:
        """The generator with the average of its weights, apart from the one that is trained."""
        model = GANGenerator.from_config(self.generator.config).to(
            memory_format=torch.channels_last
        )
        model.load_state_dict(self.generator.state_dict())
        self.average.copy_to(model.parameters())
        return model.eval()


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step downhill."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def sample_gan(
    network: GANGenerator, labels: Tensor, generator: torch.Generator, batch_size: int = 250
) -> Tensor:
    """A picture of each of the classes (N,): (N, C, size, size) in [-1, 1]."""
    z = torch.randn(len(labels), network.config.latent_dim, generator=generator)
    batches = zip(z.split(batch_size), labels.split(batch_size), strict=True)
    return torch.cat([network(*batch) for batch in batches])
