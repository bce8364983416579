"""examples/nano_ldm.py: one readable file that stands by itself, and runs."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import scripts
from minildm.data import mnist

FILE = Path(__file__).resolve().parent.parent / "examples" / "nano_ldm.py"


@pytest.fixture
def nano(monkeypatch):
    """The file, imported anew."""
    monkeypatch.delenv("MINILDM_DATA", raising=False)
    spec = importlib.util.spec_from_file_location("nano_ldm", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def digits():
    data = mnist("train", size=32)
    return data.images[:300], data.labels[:300]


def test_is_one_readable_file_that_needs_torch_and_torchvision_alone():
    lines = FILE.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 300 and max(map(len, lines)) <= 100
    nodes = list(ast.walk(ast.parse("\n".join(lines))))
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)}
    others = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
    assert others == {"torch", "torchvision", "PIL"}  # Pillow comes with torchvision


def test_trains_and_draws_and_draws_the_same_from_its_weights(
    nano, digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(nano, "load_digits", lambda: digits)
    arguments = ["nano_ldm.py", "--prompts", "a handwritten seven", "the digit 3", "--num", "3"]
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    monkeypatch.setattr(sys, "argv", [*arguments, "--minutes", "0.01", "--out", str(first)])
    nano.main()
    shown = capsys.readouterr().out
    assert all(f"{name}: 100%" in shown for name in ("classifier", "autoencoder", "denoiser"))
    weights = str(first.with_suffix(".pt"))
    monkeypatch.setattr(sys, "argv", [*arguments, "--weights", weights, "--out", str(second)])
    nano.main()
    image = Image.open(first)
    assert image.size == (3 * 30 + 2, 2 * 30 + 2)  # 28 and a rim of 2
    assert first.read_bytes() == second.read_bytes()
    assert len(set(image.convert("L").tobytes())) > 10


def test_the_digits_are_those_of_the_package(nano):
    images, labels = nano.load_digits()
    data = mnist("train", size=32)
    torch.testing.assert_close(images, data.images)
    assert labels.equal(data.labels)


def test_without_the_course_the_digits_are_torchvisions(nano, monkeypatch):
    class Published:
        data = torch.full((5, 28, 28), 255, dtype=torch.uint8)
        targets = torch.arange(5)

        def __init__(self, root, download):
            assert (root, download) == ("elsewhere", True)

    monkeypatch.setenv("MINILDM_DATA", "elsewhere")
    monkeypatch.setattr(nano, "MNIST", Published)
    images, labels = nano.load_digits()
    assert images.shape == (5, 1, 32, 32) and labels.tolist() == [0, 1, 2, 3, 4]
    assert images[..., 2:-2, 2:-2].unique() == 1 and images.sum() == 5 * (28**2 - (32**2 - 28**2))


def test_prompts_are_words_that_training_has_shown(nano):
    seven, empty = nano.tokenize(["A handwritten  seven", ""])
    assert [nano.WORDS[i] for i in seven.tolist()] == ["a", "handwritten", "seven", *["<pad>"] * 3]
    assert empty.tolist() == [0] * 6
    for prompt in ("a red seven", "seven seven seven seven seven seven seven"):
        with pytest.raises(SystemExit, match="expected at most 6 words of zero, one") as refused:
            nano.tokenize([prompt])
        assert "\n" not in str(refused.value) and repr(prompt) in str(refused.value)


@pytest.mark.parametrize(("guidance", "mean"), [(0.0, 0.0), (1.0, 0.5), (2.0, 1.0)])
def test_drawing_follows_the_ode_of_a_gaussian_and_guidance_moves_its_mean(nano, guidance, mean):
    """Told the exact v of N(0.5, 0.2²) with a prompt and of N(0, 0.2²) without one, the ODE ends in
    the same distribution, around a mean that guidance moves in proportion (v is linear in it)."""
    std = 0.2

    class Exact(nn.Module):
        def forward(self, x, t, context):
            alpha, sigma = (part.view(-1, 1, 1, 1) for part in nano.alpha_sigma(t))
            centre = 0.5 * context.view(-1, 1, 1, 1)
            pull = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
            x0 = centre + pull * (x - alpha * centre)
            return (alpha * x - x0) / sigma

    class Asked(nn.Module):
        def forward(self, tokens):
            return (tokens > 0).any(1).float()

    torch.manual_seed(0)
    model = nano.LatentDiffusion()
    model.unet, model.text_encoder = Exact(), Asked()
    seen = []
    model.decoder = nn.Identity()
    model.decoder.register_forward_hook(lambda module, given, latent: seen.append(latent))
    model.draw(["seven"] * 200, steps=200, guidance=guidance)
    assert seen[0].mean() == pytest.approx(mean, abs=0.02)
    assert seen[0].std() == pytest.approx(std, rel=0.05)


def test_the_unet_hears_the_prompt_the_time_and_every_place(nano):
    torch.manual_seed(0)
    model = nano.LatentDiffusion().double()
    x = torch.randn(1, 8, 4, 4, dtype=torch.float64, requires_grad=True)
    seven, three = model.text_encoder(nano.tokenize(["seven", "three"])).split(1)
    half = torch.tensor([0.5], dtype=torch.float64)
    v = model.unet(x, half, seven)
    assert v.shape == x.shape and not v.allclose(model.unet(x, half, three))
    assert not v.allclose(model.unet(x, half / 2, seven))
    (slope,) = torch.autograd.grad(v[0, 0, 0, 0], x)
    assert slope.count_nonzero() == slope.numel()


def test_optimizing_stops_when_its_time_is_up_and_has_learnt(nano, monkeypatch, capsys):
    ticks = iter(range(1000))
    monkeypatch.setattr(nano, "clock", lambda: next(ticks))
    torch.manual_seed(0)
    network, target = nn.Linear(3, 1), torch.tensor([[1.0, -2.0, 0.5]])

    def loss():
        x = torch.randn(64, 3)
        return (network(x) - x @ target.T).square().mean()

    before = loss().item()
    nano.optimize("line", network, 0.1, 200, loss)
    assert loss().item() < before / 100
    assert "100%, step 200," in capsys.readouterr().out


def test_the_benchmark_reads_what_the_prompts_asked_for(nano, monkeypatch):
    """A "model" that hands out real digits of the class that is asked for is scored as real
    digits are; one that hands out others is not."""
    bench = scripts.load("nano_ldm")
    monkeypatch.setattr(bench, "GUIDANCE", (1.0, 2.0))
    data = mnist("test")

    class Real:
        def draw(self, prompts, guidance):
            words = [prompt.split()[-1] for prompt in prompts]
            names = [nano.NUMERALS.index(w) if w in nano.NUMERALS else int(w) for w in words]
            wanted = [(name + (guidance == 2)) % 10 for name in names]
            return torch.stack([data.images[data.labels == name][0] / 2 + 0.5 for name in wanted])

    scores, floor = bench.measure(nano, Real(), 100)
    assert [guidance for guidance, _ in scores] == [1.0, 2.0]
    assert scores[0][1].accuracy == 1.0 and scores[1][1].accuracy == 0.0 and floor.accuracy > 0.97
    preset = [{"seed": 7, "scores": [{"guidance": 2.0, "accuracy": 0.5, "frechet": 3.0}]}]
    preset[0]["floor"] = {"frechet": 2.0}
    lines = bench.table(scores, floor, preset).splitlines()
    assert len(lines) == 4 and lines[-1].split() == "preset, seed 7 2 50.0% 3.00 1.50".split()
