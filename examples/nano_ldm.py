"""Latent diffusion in one file: it learns to draw handwritten digits from words.

    python examples/nano_ldm.py --minutes 4 --prompts "a handwritten seven" "the digit 3"

Three networks, trained on MNIST: an autoencoder makes a picture (1, 32, 32) a latent z (8, 4, 4)
and back; a text encoder makes the words of a prompt vectors; a U-Net takes the noise out of a
latent and reads those vectors while it does. To draw: begin with noise in the place of z, go to a
clean z in a few steps, and decode it. Nothing is needed but torch, and torchvision with its Pillow.
"""

import argparse
import math
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import count, pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.datasets import MNIST
from torchvision.transforms.functional import pil_to_tensor
from torchvision.utils import save_image

NUMERALS = "zero one two three four five six seven eight nine".split()
PHRASES = "a handwritten {}", "the digit {}", "the number {}", "a picture of {}", "{}"
WORDS = ["<pad>", *NUMERALS, *"0123456789", *"a handwritten the digit number picture of".split()]
LENGTH = 6  # words of a prompt; shorter ones are filled up with <pad>, and "" is nothing else
LATENT = (8, 4, 4)  # channels, height, width
conv = partial(nn.Conv2d, kernel_size=3, padding=1)
clock = time.perf_counter


def load_digits() -> tuple[Tensor, Tensor]:
    """MNIST (60000, 1, 32, 32) in [-1, 1], framed in black, and its labels (60000,): from the sheet
    that comes with the course, or else by torchvision, which downloads it."""
    sheet = Path(__file__).resolve().parent.parent / "data" / "mnist-train.png"
    if sheet.exists() and "MINILDM_DATA" not in os.environ:
        pixels = pil_to_tensor(Image.open(sheet))[0]  # 200 digits of 28 x 28 in a row
        pixels = pixels.unfold(0, 28, 28).unfold(1, 28, 28).reshape(-1, 28, 28)
        labels = torch.tensor([*map(int, sheet.with_suffix(".txt").read_text().replace("\n", ""))])
    else:
        data = MNIST(os.environ.get("MINILDM_DATA", "data"), download=True)
        pixels, labels = data.data, data.targets
    return F.pad(pixels[:, None] / 127.5 - 1, (2, 2, 2, 2), value=-1.0), labels


def tokenize(prompts: list[str]) -> Tensor:
    """Each word's number: (B, LENGTH)."""
    rows = [prompt.lower().split() for prompt in prompts]
    for row in rows:
        if len(row) > LENGTH or not set(row) <= set(WORDS):
            known = ", ".join(WORDS[1:])
            raise SystemExit(f"expected at most {LENGTH} words of {known}; got {' '.join(row)!r}")
    return torch.tensor([[*map(WORDS.index, row), *[0] * (LENGTH - len(row))] for row in rows])


class ResnetBlock(nn.Module):
    """x (B, C, H, W) + what two convolutions, told the time, find: (B, D, H, W)."""

    def __init__(self, c: int, d: int, time_dim: int = 0):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, c), conv(c, d)
        self.norm2, self.conv2 = nn.GroupNorm(8, d), conv(d, d)
        self.time = nn.Linear(time_dim, d) if time_dim else None
        self.shortcut = nn.Identity() if c == d else nn.Conv2d(c, d, kernel_size=1)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        if self.time is not None:
            h = h + self.time(time)[:, :, None, None]
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    """Each of x (B, N, D) asks, and each of context (B, M, C), or of x itself, answers."""

    def __init__(self, dim: int, context_dim: int | None = None):
        super().__init__()
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(context_dim or dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        q, (k, v) = self.to_q(x), self.to_kv(x if context is None else context).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (4, -1)).transpose(1, 2) for t in (q, k, v))  # four heads
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """x (B, N, D): look at each other, then, if there is one, at the context, then think."""

    def __init__(self, dim: int, context_dim: int | None = None):
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(dim), Attention(dim)
        if context_dim:
            self.norm2, self.attn2 = nn.LayerNorm(dim), Attention(dim, context_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        if context is not None:
            x = x + self.attn2(self.norm2(x), context)
        return x + self.mlp(self.norm3(x))


def make_classifier() -> nn.Sequential:
    """Which digit is it? images (B, 1, 32, 32) -> (B, 10)."""
    blocks = []
    for c, d in pairwise((1, 8, 16, 32)):
        pool = nn.MaxPool2d(2) if blocks else nn.Identity()
        layers = conv(c, d), nn.BatchNorm2d(d), nn.ReLU(), conv(d, d), nn.BatchNorm2d(d), nn.ReLU()
        blocks.append(nn.Sequential(pool, *layers))
    return nn.Sequential(*blocks, nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10)))


class TextEncoder(nn.Module):
    """The numbers of words (B, LENGTH) -> a vector for each, which knows its neighbours."""

    def __init__(self, dim: int = 64, layers: int = 2):
        super().__init__()
        self.words = nn.Embedding(len(WORDS), dim)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, dim))
        self.blocks = nn.Sequential(*(TransformerBlock(dim) for _ in range(layers)))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm(self.blocks(self.words(tokens) + self.places))


class UNet(nn.Module):
    """Noisy latents (B, 8, 4, 4), time (B,) in [0, 1], words' vectors (B, M, 64) -> v, as x."""

    def __init__(self, width: int = 64, wide: int = 128, time: int = 128, context_dim: int = 64):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(64, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.conv_in = conv(LATENT[0], width)
        self.down1 = ResnetBlock(width, width, time)  # at 4 x 4
        self.down = conv(width, width, stride=2)
        self.down2 = ResnetBlock(width, wide, time)  # at 2 x 2
        self.middle1, self.middle2 = ResnetBlock(wide, wide, time), ResnetBlock(wide, wide, time)
        self.up2 = ResnetBlock(wide + wide, wide, time)  # what comes up, and the skip
        self.up = conv(wide, width)
        self.up1 = ResnetBlock(width + width, width, time)
        self.read = nn.ModuleList(TransformerBlock(wide, context_dim) for _ in range(3))
        self.out = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), conv(width, LATENT[0]))

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        angles = 1000 * t[:, None] * torch.exp(-math.log(10000) * torch.arange(32) / 32)
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))

        def read(block: nn.Module, h: Tensor) -> Tensor:
            return block(h.flatten(2).mT, context).mT.unflatten(2, h.shape[2:])

        skip1 = self.down1(self.conv_in(x), time)
        skip2 = read(self.read[0], self.down2(self.down(skip1), time))
        h = self.middle2(read(self.read[1], self.middle1(skip2, time)), time)
        h = read(self.read[2], self.up2(torch.cat([h, skip2], dim=1), time))
        h = self.up(F.interpolate(h, scale_factor=2))
        return self.out(self.up1(torch.cat([h, skip1], dim=1), time))


class LatentDiffusion(nn.Module):
    """All that is needed to draw."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(  # images (B, 1, 32, 32) -> mean and log-variance of z
            *(conv(1, 16, stride=2), ResnetBlock(16, 32)),
            *(conv(32, 32, stride=2), ResnetBlock(32, 64)),
            *(conv(64, 64, stride=2), ResnetBlock(64, 64)),
            *(nn.GroupNorm(8, 64), nn.SiLU(), conv(64, 2 * LATENT[0])),
        )
        self.decoder = nn.Sequential(  # z (B, 8, 4, 4) -> images
            *(conv(LATENT[0], 64), ResnetBlock(64, 64), nn.Upsample(scale_factor=2)),
            *(conv(64, 64), ResnetBlock(64, 32), nn.Upsample(scale_factor=2)),
            *(conv(32, 32), ResnetBlock(32, 32), nn.Upsample(scale_factor=2)),
            *(conv(32, 16), nn.SiLU(), conv(16, 1)),
        )
        self.text_encoder, self.unet = TextEncoder(), UNet()
        self.register_buffer("scale", torch.ones(()))  # makes the variance of latents 1

    @torch.no_grad()
    def draw(self, prompts: list[str], steps: int = 20, guidance: float = 1.5) -> Tensor:
        """DDIM with classifier-free guidance: (B, 1, 28, 28) in [0, 1]."""
        context = self.text_encoder(tokenize([*prompts, *[""] * len(prompts)]))
        x = torch.randn(len(prompts), *LATENT)
        for t, t_next in pairwise(torch.linspace(1, 0, steps + 1)):
            v, v_empty = self.unet(x.repeat(2, 1, 1, 1), t.repeat(len(context)), context).chunk(2)
            v = v_empty + guidance * (v - v_empty)  # further in the direction of the prompt
            alpha, sigma = alpha_sigma(t)
            x0, noise = alpha * x - sigma * v, sigma * x + alpha * v
            alpha, sigma = alpha_sigma(t_next)
            x = alpha * x0 + sigma * noise
        return (self.decoder(x / self.scale)[..., 2:-2, 2:-2] / 2 + 0.5).clamp(0, 1)


def alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
    """x_t = alpha·x_0 + sigma·noise goes a quarter of a circle, from the picture to the noise."""
    return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)


def optimize(name: str, network: nn.Module, rate: float, seconds: float, loss: Callable) -> None:
    """Steps of AdamW until the time is up; the rate climbs, then falls to 0."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.99))
    done, start = 0.0, clock()
    for step in count(1):
        fall = 0.5 + 0.5 * math.cos(math.pi * done)
        optimizer.param_groups[0]["lr"] = rate * min(20 * done, fall)
        error = loss()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        done = min((clock() - start) / seconds, 1.0)
        print(f"\r{name}: {done:4.0%}, step {step}, loss {error.item():.3f} ", end="", flush=True)
        if done == 1:
            return print()


def train(minutes: float) -> LatentDiffusion:
    """All of it, from random weights."""
    images, labels = load_digits()
    model, classifier = LatentDiffusion().to(memory_format=torch.channels_last), make_classifier()

    def class_error() -> Tensor:
        chosen = torch.randint(len(images), (64,))
        return F.cross_entropy(classifier(images[chosen]), labels[chosen])

    optimize("classifier", classifier, 5e-3, 0.04 * 60 * minutes, class_error)
    classifier.eval().requires_grad_(False)

    def picture_error() -> Tensor:
        """|x - x'|, how unlike they are to the classifier, and how far q(z|x) is from N(0, I)."""
        x = images[torch.randint(len(images), (32,))]
        mean, logvar = model.encoder(x).chunk(2, dim=1)
        rebuilt = model.decoder(mean + (logvar / 2).exp() * torch.randn_like(mean))
        a, b, unlike = rebuilt, x, 0.0
        for block in classifier[:-1]:
            a, b = block(a), block(b)
            unlike = unlike + (a - b).square().mean() / b.square().mean() / 3
        kl = (mean.square() + logvar.exp() - 1 - logvar).mean() / 2
        return (rebuilt - x).abs().mean() + 0.3 * unlike + 5e-3 * kl

    autoencoder = nn.ModuleList([model.encoder, model.decoder])
    optimize("autoencoder", autoencoder, 3e-3, 0.34 * 60 * minutes, picture_error)

    with torch.no_grad():  # the latent of each picture, once and for all
        mean, logvar = torch.cat([model.encoder(x) for x in images.split(1000)]).chunk(2, dim=1)
        model.scale.fill_((mean.var() + logvar.exp().mean()) ** -0.5)
        mean, std = model.scale * mean, model.scale * (logvar / 2).exp()
    phrases = [phrase.format(n) for pair in enumerate(NUMERALS) for n in pair for phrase in PHRASES]
    tokens = tokenize(phrases).unflatten(0, (10, -1))  # of each digit, each way to ask for it

    def noise_error() -> Tensor:
        chosen = torch.randint(len(mean), (64,))
        x0 = mean[chosen] + std[chosen] * torch.randn(64, *LATENT)
        asked = tokens[labels[chosen], torch.randint(tokens.shape[1], (64,))]
        asked[torch.rand(64) < 0.1] = 0  # no prompt: guidance needs that too
        t = (torch.arange(64) + torch.rand(64)) / 64  # one in each 64th of the way
        alpha, sigma = (part[:, None, None, None] for part in alpha_sigma(t))
        noise = torch.randn_like(x0)
        v = model.unet(alpha * x0 + sigma * noise, t, model.text_encoder(asked))
        return F.mse_loss(v, alpha * noise - sigma * x0)

    denoiser = nn.ModuleList([model.text_encoder, model.unet])
    optimize("denoiser", denoiser, 2e-3, 0.62 * 60 * minutes, noise_error)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=4.0, help="of training")
    parser.add_argument("--prompts", nargs="+", default=[f"a handwritten {n}" for n in NUMERALS])
    parser.add_argument("--num", type=int, default=8, help="pictures of each prompt")
    parser.add_argument("--guidance", type=float, default=1.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="draw with these (.pt); no training")
    parser.add_argument("--out", type=Path, default=Path("nano_ldm.png"))
    options = parser.parse_args()
    tokenize(options.prompts)  # better now than after the training

    torch.manual_seed(options.seed)
    if options.weights:
        model = LatentDiffusion()
        model.load_state_dict(torch.load(options.weights))
    else:
        model = train(options.minutes)
        torch.save(model.state_dict(), options.out.with_suffix(".pt"))
    torch.manual_seed(options.seed)
    prompts = [prompt for prompt in options.prompts for _ in range(options.num)]
    save_image(model.draw(prompts, guidance=options.guidance), options.out, nrow=options.num)
    print(f"{options.out}: a row for each of {', '.join(map(repr, options.prompts))}")


if __name__ == "__main__":
    main()
