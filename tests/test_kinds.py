"""Numbers that count something: Python's and NumPy's do, all else is one line, everywhere where a
batch has a size."""

import re

import numpy as np
import pytest
import torch

from minildm.configuration import as_float, checked_count
from minildm.evaluation import read_scenes, sample_by_label
from minildm.models import ImageClassifier, UNet2DModel, extract
from minildm.schedulers import SAMPLERS

WRONG = [0, -1, 1.0, 2.5, True, False, None, "2", float("nan"), np.float32(2), np.bool_(True), [2]]


@pytest.mark.parametrize("count", [1, 2, np.int64(2), np.uint8(7), 10**30])
def test_a_count_comes_back_as_pythons_own(count):
    got = checked_count("batch_size", count)
    assert got == count and type(got) is int


@pytest.mark.parametrize("count", WRONG, ids=repr)
def test_all_else_is_refused_with_what_came(count):
    message = f"expected a whole batch_size of 1 or more, got {count!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        checked_count("batch_size", count)


def callers():
    torch.manual_seed(0)
    grey = ImageClassifier(block_out_channels=(2, 2, 2), feature_dim=4).eval()
    pictures = torch.rand(5, 1, grey.config.sample_size, grey.config.sample_size)
    scenes = torch.rand(5, 3, 32, 32) * 2 - 1
    unet = UNet2DModel(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        block_out_channels=(8,),
        norm_num_groups=2,
        num_class_embeds=3,
    ).eval()
    noise, labels = torch.randn(5, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1])
    scheduler = SAMPLERS["ddim"](clip_sample=False)
    return {
        "extract": lambda size: extract(grey, pictures, batch_size=size)[0],
        "read_scenes": lambda size: read_scenes(grey, scenes, batch_size=size).maps.float(),
        "sample_by_label": lambda size: sample_by_label(
            unet, scheduler, noise, labels, 2, batch_size=size
        ),
    }


@pytest.mark.parametrize("name", ["extract", "read_scenes", "sample_by_label"])
def test_a_batch_has_a_whole_size_and_changes_nothing(name):
    call = callers()[name]
    expected = call(5)
    for size in (1, 2, np.int64(2), 7):
        torch.testing.assert_close(call(size), expected, rtol=1e-5, atol=1e-5)
    for size in (0, True, 2.0):
        with pytest.raises(ValueError, match="expected a whole batch_size of 1 or more, got"):
            call(size)


@pytest.mark.parametrize("value", [0, 2.5, -3, np.float32(0.5), np.int64(2), torch.tensor([7.0])])
def test_one_number_of_any_library_is_pythons_own(value):
    assert as_float(value) == float(value) and type(as_float(value)) is float


@pytest.mark.parametrize(
    "value",
    [None, True, "2", 1j, [2], float("nan"), float("inf"), 10**400, 1e39, torch.zeros(2)],
    ids=repr,
)
def test_what_is_not_one_number_that_float32_can_hold_is_none(value):
    assert as_float(value) is None
