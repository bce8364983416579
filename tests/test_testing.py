"""The parity helper finds what differs; the pace is what the environment says."""

import copy

import pytest
import torch
from torch import nn

from minildm.models import UNet2DConditionModel
from minildm.testing import assert_parity, compare, outputs_and_gradients, pace, randomise_


class Scaled(nn.Linear):
    """A linear layer whose output is multiplied by what should be 1."""

    def __init__(self, factor: float):
        super().__init__(3, 2)
        self.factor = factor

    def forward(self, x):
        return self.factor * super().forward(x)


X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def test_the_same_model_agrees_exactly():
    assert assert_parity(Scaled(1), nn.Linear(3, 2), [X]) == (0, 0, 0, 0)


@pytest.mark.parametrize("factor", [1 + 1e-6, 1 + 1e-8, -1, 0, float("nan")])
def test_a_slightly_different_model_is_found(factor):
    with pytest.raises(AssertionError, match="differs by"):
        assert_parity(Scaled(factor), nn.Linear(3, 2), [X])


def test_a_model_that_agrees_but_has_other_gradients_is_found():
    class Detached(nn.Linear):
        def forward(self, x):
            return super().forward(x.detach() if x.requires_grad else x)

    with pytest.raises(AssertionError, match="gradient of input 0"):
        assert_parity(Detached(3, 2), nn.Linear(3, 2), [X])


def test_layers_that_start_at_zero_do_not_hide_a_difference():
    def zeroed(activation):
        last = nn.Linear(5, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(nn.Linear(3, 5), activation, last)

    with pytest.raises(AssertionError, match="differs by"):
        assert_parity(zeroed(nn.ReLU()), zeroed(nn.Tanh()), [X])


def test_another_state_dict_is_named():
    with pytest.raises(AssertionError, match="state_dict does not fit.*bias"):
        assert_parity(nn.Linear(3, 2, bias=False), nn.Linear(3, 2), [X])


def test_neither_model_is_changed():
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    before = [p.clone() for model in (ours, theirs) for p in model.parameters()]
    assert_parity(ours, theirs, [X])
    after = [p for model in (ours, theirs) for p in model.parameters()]
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_random_weights_keep_the_size_of_what_passes_through():
    layers = nn.Sequential(*[nn.Linear(256, 256) for _ in range(10)])
    out = randomise_(layers, torch.Generator().manual_seed(0))(torch.randn(64, 256))
    assert 0.5 < out.std() < 2


@pytest.mark.parametrize("seed", range(4))
def test_random_weights_of_half_the_size_leave_float32_its_digits(seed):
    blocks = ("CrossAttnDownBlock2D",) * 2, ("CrossAttnUpBlock2D",) * 2
    unet = UNet2DConditionModel(
        down_block_types=blocks[0],
        up_block_types=blocks[1],
        block_out_channels=(8, 16),
        layers_per_block=2,
        attention_head_dim=(1, 4),
        norm_num_groups=4,
        cross_attention_dim=12,
    )
    randomise_(unet, generator := torch.Generator().manual_seed(seed), scale=0.5)
    inputs = (
        torch.randn(2, 4, 8, 8, generator=generator),
        3,
        torch.randn(2, 5, 12, generator=generator),
    )
    exact = outputs_and_gradients(copy.deepcopy(unet).double(), inputs, None, torch.float64)
    assert compare(outputs_and_gradients(unet, inputs, None, torch.float32), exact, 1e-5) > 0


def test_the_pace_is_the_courses_unless_the_environment_says_test(monkeypatch):
    monkeypatch.delenv("MINILDM_PACE", raising=False)
    assert pace(1000, 10) == 1000
    monkeypatch.setenv("MINILDM_PACE", "test")
    assert pace(1000, 10) == 10
    monkeypatch.setenv("MINILDM_PACE", "fast")
    with pytest.raises(ValueError, match="expected MINILDM_PACE to be course or test, got 'fast'"):
        pace(1000, 10)
