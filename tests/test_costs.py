"""minildm.evaluation.costs: the counts, against formulas and against hand-written lists of what is
kept."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minildm import UNet2DConditionModel
from minildm.evaluation import cost, peak_memory
from minildm.models import Attention


def test_a_convolution_costs_two_operations_for_each_weight_at_each_place():
    conv = nn.Conv2d(3, 5, 3, padding=1)
    counted = cost(conv, torch.empty(2, 3, 8, 6))
    assert counted.parameters == 5 * 3 * 9 + 5
    assert counted.flops == 2 * (3 * 5 * 9) * (2 * 8 * 6)
    # and the weights' gradient; the input of the first needs none
    assert counted.training_flops == 2 * counted.flops


def test_a_layer_in_the_middle_costs_three_times_as_much_in_training():
    layers = nn.Sequential(nn.Linear(4, 7), nn.Linear(7, 5))
    counted = cost(layers, torch.empty(6, 4))
    first, second = 2 * 6 * 4 * 7, 2 * 6 * 7 * 5
    assert counted.flops == first + second
    assert counted.training_flops == 2 * first + 3 * second


def test_attention_costs_two_products_of_all_places_with_all_places():
    layer = Attention(8, heads=2, dim_head=4)
    projections = 4 * 2 * 9 * 8 * 8
    assert cost(layer, torch.empty(1, 9, 8)).flops == projections + 2 * (2 * 9 * 9 * 8)


def test_what_is_kept_is_each_layers_input_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 4, 1)

        def forward(self, x):
            return self.conv2(F.silu(self.conv1(x)))

    # the input, what SiLU gets, and what the second convolution gets: four bytes each; no weights
    places = 5 * 5
    assert cost(Twice(), torch.empty(1, 1, 5, 5)).kept == 4 * places * (1 + 2 + 2)


def test_the_model_is_left_alone_and_the_inputs_may_lie_anywhere():
    conv = nn.Conv2d(1, 1, 3).eval().requires_grad_(False)
    before = conv.weight.clone()
    assert cost(conv, torch.zeros(1, 1, 4, 4)) == cost(conv, torch.empty(1, 1, 4, 4, device="meta"))
    assert (
        conv.weight.device.type == "cpu"
        and not conv.weight.requires_grad
        and conv.weight.grad is None
    )
    torch.testing.assert_close(conv.weight, before)


def test_another_call_is_counted_instead():
    layers = nn.Sequential(nn.Linear(4, 7), nn.Linear(7, 5))
    assert cost(layers, torch.empty(1, 7), call=lambda model, x: model[1](x)).flops == 2 * 7 * 5


def test_stable_diffusions_u_net_is_counted_without_being_held():
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
    counted = cost(unet, torch.empty(1, 4, 64, 64), torch.zeros(1), torch.empty(1, 77, 768))
    assert counted.parameters == 859_520_964  # of runwayml/stable-diffusion-v1-5
    assert 0.79e12 < counted.flops < 0.81e12


def test_the_peak_is_the_most_that_is_held_at_once():
    x = torch.randn(1000)

    def call():
        a = x + 1
        b = a * 2  # a and b
        del a
        return b - 1  # b and the result

    assert peak_memory(call) == pytest.approx(2 * 4000, abs=100)  # numbers become small tensors
    assert peak_memory(lambda: x.view(10, 100)) == 0
    assert peak_memory(lambda: torch.zeros(500).sum()) == pytest.approx(500 * 4, abs=100)
