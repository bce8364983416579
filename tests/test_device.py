"""device: the one choice, and nothing is made on another device than the chosen one."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
import torch
from pretend import pretended_device
from tiny import tiny_pipeline
from torch import nn

from minildm.data import DigitScenes, ImageData, held_out
from minildm.device import default_device, set_default_device
from minildm.evaluation import frechet_distance
from minildm.models import ImageClassifier, extract
from minildm.plots import (
    image_grid,
    plot_curves,
    plot_filmstrip,
    plot_histograms,
    plot_points,
    plot_schedules,
)
from minildm.schedulers import SAMPLERS
from minildm.testing import assert_parity
from minildm.training import ClassifierLoss, Trainer, classifier_batches
from minildm.training.examiners import EXAMINERS
from minildm.widgets import frame_slider

CHAPTERS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture
def device():
    with pretended_device() as device:
        yield device


def test_without_a_wish_there_is_a_device(monkeypatch):
    monkeypatch.delenv("MINILDM_DEVICE", raising=False)
    assert torch.zeros(1, device=default_device()).device.type == default_device().type


def test_the_environment_overrides_and_a_name_overrides_the_environment(monkeypatch):
    monkeypatch.setenv("MINILDM_DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert default_device() == torch.device("cpu")
    assert default_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.delenv("MINILDM_DEVICE")
    assert default_device() == torch.device("cuda")


def test_torch_can_tell_its_default_device_before_during_and_after():
    set_default_device("cpu")
    assert torch.get_default_device() == torch.device("cpu")
    with pretended_device() as device:
        assert torch.get_default_device() == device
    assert torch.get_default_device() == torch.device("cpu")


@pytest.mark.parametrize("name", ["tpu", "cuda:7", "CPU"])
def test_a_device_that_is_not_here_is_one_clear_line(monkeypatch, name):
    expected = rf"expected a device that is here \(auto, .*cpu.*\), got '{name}'"
    with pytest.raises(ValueError, match=f"^--device: {expected}$"):
        default_device(name)
    monkeypatch.setenv("MINILDM_DEVICE", name)
    with pytest.raises(ValueError, match=f"^MINILDM_DEVICE: {expected}$"):
        default_device()


@pytest.mark.parametrize("name", ["meta", "cuda:7", torch.device("cuda:7")], ids=str)
def test_a_device_that_is_not_here_is_not_set(name):
    """torch would take it, and then not even tell it."""
    with pytest.raises(ValueError, match="expected a device that is here"):
        set_default_device(name)
    assert torch.get_default_device() == torch.zeros(1).device == torch.device("cpu")


def test_without_float64_a_chapter_stays_on_the_cpu(monkeypatch):
    monkeypatch.delenv("MINILDM_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert default_device() == torch.device("mps")
    assert set_default_device() == torch.device("cpu")


def test_on_a_cpu_nothing_changes():
    before = torch.overrides._get_current_function_mode_stack()
    assert set_default_device("cpu") == torch.device("cpu")
    assert torch.overrides._get_current_function_mode_stack() == before


def drawn():
    """Something of everything random."""
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(2)
    linear, embedding = nn.Linear(3, 2), nn.Embedding(4, 2)
    x = torch.randn(4, 3, generator=generator)
    return [
        x,
        torch.rand(3),
        torch.randint(9, (5,), generator=generator),
        torch.randperm(6, generator=generator),
        torch.randn_like(x),
        torch.normal(x, x.abs()),
        torch.bernoulli(x.sigmoid(), generator=generator),
        torch.multinomial(x.softmax(1), 2, generator=generator),
        torch.zeros(3).normal_(generator=generator),
        linear(x).detach(),
        embedding.weight.detach(),
        nn.Conv2d(3, 4, 3).weight.detach(),
        nn.init.xavier_uniform_(torch.empty(3, 2)),
    ]


def test_a_seed_means_the_same_numbers_on_every_device():
    expected = drawn()
    with pretended_device() as device:
        got = drawn()
        assert {tensor.device for tensor in got} == {device}
        got = [tensor.cpu() for tensor in got]
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_what_is_made_elsewhere_on_purpose_stays_there(device):
    assert torch.randn(2, device="cpu").device.type == "cpu"
    with torch.device("meta"):
        assert nn.Linear(2, 2).weight.device.type == "meta"


def test_a_leaf_keeps_its_gradient(device):
    place = torch.randn(3, requires_grad=True)
    place.square().sum().backward()
    torch.testing.assert_close(place.grad, 2 * place.detach())


# The device of the tests below keeps a GPU's rules


@pytest.mark.parametrize(
    "mixing",
    [
        lambda x: x + torch.ones(3, device="cpu"),
        lambda x: x.numpy(),
        lambda x: torch.ones(3, device="cpu")[x.long()],
        lambda x: nn.Linear(3, 1, device="cpu")(x),
    ],
)
def test_the_pretended_device_keeps_the_rules_of_a_gpu(device, mixing):
    with pytest.raises((RuntimeError, TypeError), match="device"):
        mixing(torch.ones(3))


def test_the_pretended_device_lets_pass_what_a_gpu_lets_pass(device):
    x, one = torch.ones(3), torch.ones((), device="cpu")
    assert (x * one).device == device
    assert x[torch.tensor([0], device="cpu")].device == device
    assert x.cpu().numpy().sum() == 3 and x.tolist() == [1, 1, 1] and f"{x.sum():g}" == "3"
    with pytest.raises(RuntimeError, match="generator"):
        torch.ops.aten.normal_(x, generator=torch.Generator())


# The package's functions


@pytest.mark.parametrize("name", sorted({*SAMPLERS} - {"flow_euler"}))
def test_every_sampler_draws_where_the_model_is(device, name):
    pipeline = tiny_pipeline().use_sampler(name)
    options = {"num_inference_steps": 2, "guidance_scale": 2.0, "progress": False}
    drawn = pipeline(["seven"], generator=torch.Generator().manual_seed(0), **options)
    assert pipeline.device == drawn.device == device


def test_a_picture_of_the_same_seed_is_the_same_on_every_device():
    def draw():
        generator = torch.Generator().manual_seed(3)
        return tiny_pipeline()(["one", "two"], generator=generator, progress=False).cpu()

    expected = draw()
    with pretended_device():
        torch.testing.assert_close(draw(), expected)


def test_a_pipeline_that_is_moved_draws_there():
    pipeline = tiny_pipeline()
    with pretended_device() as device:
        set_default_device("cpu")  # as on the command line, where only `to` says where
        pipeline.to(device)
        image = pipeline(["seven"], progress=False, generator=torch.Generator())
        assert image.device == device
        again = pipeline(["six"], image=image, strength=0.5, progress=False)
        assert again.device == device


def test_a_network_is_trained_where_it_is(device):
    torch.manual_seed(0)
    images, labels = torch.rand(40, 1, 28, 28), torch.arange(40) % 10
    loss = ClassifierLoss(ImageClassifier(28, block_out_channels=(4, 4, 4), feature_dim=4))
    augment = EXAMINERS["mnist"].augment
    batch = classifier_batches(
        images, labels, stream="examiner", batch_size=8, seed=0, augment=augment
    )
    trainer = Trainer("examiner", loss, batch, learning_rate=1e-3)
    assert len(trainer.train(2, progress=False)) == 2
    features, predicted = extract(loss.classifier.eval(), images)
    assert {features.device, predicted.device, images.device} == {device}
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)


def test_scenes_are_painted_and_read_on_the_device(device):
    generator = torch.Generator().manual_seed(0)
    digits = ImageData(torch.rand(50, 1, 28, 28) * 2 - 1, torch.arange(50) % 10, ())
    for split in ("seen", "held_out_colour", "held_out_place"):
        scenes = DigitScenes(digits).sample(4, generator, split=split)
        assert {scenes.images.device, scenes.maps.device} == {device}
        assert held_out(scenes.attributes)[0].device == device


def test_figures_take_what_is_on_the_device(device):
    pictures, curve = torch.rand(4, 1, 8, 8), torch.linspace(0.9, 0.1, 10)
    image_grid(pictures, list("abcd"))
    plot_filmstrip([pictures, list(pictures)], list("abcd"), ["tensor", "list"])
    plot_schedules({"linear": curve})
    plot_curves(range(10), {"a": curve}, "x", "y")
    plot_histograms({"a": curve})
    plot_points({"a": torch.rand(5, 2)})
    frame_slider({"a": pictures}, {"a": list("abcd")})


def test_parity_is_checked_on_the_device(device):
    assert assert_parity(nn.Linear(3, 2), nn.Linear(3, 2), (torch.ones(1, 3),)).output32 < 1e-5


# Chapters


def cells(path):
    """The sources of a notebook's code cells."""
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_follows_the_choice_before_it_makes_anything(path):
    first, *others = cells(path)
    body = ast.parse(first).body
    made = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert ast.unparse(made[0]) == "set_default_device()"
    assert not any("set_default_device" in source for source in others)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_handles_no_device(path):
    """`torch.as_tensor` goes where everything goes, `torch.from_numpy` and `.numpy()` know the CPU
    alone."""
    for source in cells(path):
        assert not re.search(r"from_numpy|cuda|[\"']cpu[\"']", source)
        assert source.count(".numpy()") == source.count(".cpu().numpy()")
