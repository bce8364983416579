"""The diffusion transformer: diffusers' numbers, and what adaLN-zero promises."""

import diffusers
import pytest
import torch

from minildm.evaluation import sample_by_label
from minildm.models import DiTTransformer2DModel, get_2d_sincos_pos_embed
from minildm.schedulers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from minildm.testing import assert_parity, randomise_
from minildm.training import DenoisingLoss

SMALL = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "in_channels": 3,
    "num_layers": 2,
    "sample_size": 4,
    "patch_size": 2,
    "num_embeds_ada_norm": 10,
}


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(3, 3, 4, 4, generator=generator),
        torch.tensor([0, 500, 999]),
        torch.tensor([0, 9, 10]),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"patch_size": 1},
        {"num_layers": 1, "num_attention_heads": 3, "attention_head_dim": 4},
        {"out_channels": 6, "attention_bias": False},
        {"norm_elementwise_affine": True, "norm_eps": 1e-3},
    ],
    ids=str,
)
def test_outputs_and_gradients_are_those_of_diffusers(changes, inputs):
    theirs = diffusers.DiTTransformer2DModel(**{**SMALL, **changes})
    assert_parity(DiTTransformer2DModel(**{**SMALL, **changes}), theirs, inputs)


def test_what_either_library_saves_the_other_opens(tmp_path, inputs):
    ours = randomise_(DiTTransformer2DModel(**SMALL)).eval()
    ours.save_pretrained(tmp_path / "ours")
    theirs = diffusers.DiTTransformer2DModel.from_pretrained(tmp_path / "ours").eval()
    torch.testing.assert_close(ours(*inputs), theirs(*inputs).sample, rtol=1e-4, atol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    again = DiTTransformer2DModel.from_pretrained(tmp_path / "theirs")
    torch.testing.assert_close(again(*inputs), ours(*inputs), rtol=0, atol=0)


def test_every_block_begins_as_the_identity_and_the_model_at_zero(inputs):
    model, tokens = DiTTransformer2DModel(**SMALL), torch.randn(3, 4, 16)
    for block in model.transformer_blocks:
        torch.testing.assert_close(block(tokens, *inputs[1:]), tokens, rtol=0, atol=0)
    assert not model(*inputs).any()


def test_the_blocks_learn_although_their_gates_begin_closed(inputs):
    """The output layer opens first, then the gates, then what they had shut off."""
    torch.manual_seed(0)
    model = DiTTransformer2DModel(**SMALL)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = DenoisingLoss(model, DDPMScheduler())
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    changed = []
    for _ in range(3):
        optimizer.zero_grad()
        loss(inputs[0], torch.ones(3, 3, 4, 4), *inputs[1:]).backward()
        optimizer.step()
        changed.append({name for name, p in model.named_parameters() if (p != before[name]).any()})
    assert changed[0] == {"proj_out_2.weight", "proj_out_2.bias"}
    assert "transformer_blocks.0.norm1.linear.weight" in changed[1]
    assert "transformer_blocks.0.attn1.to_q.weight" in changed[2]


def test_tokens_go_back_to_where_their_patches_were():
    """A patch changes only its own place in the output, if no token looks at another."""
    model = randomise_(DiTTransformer2DModel(**SMALL)).eval()
    for block in model.transformer_blocks:
        torch.nn.init.zeros_(block.attn1.to_out[0].weight)
    x, said = torch.zeros(1, 3, 4, 4), (torch.tensor([5]), torch.tensor([1]))
    other = x.clone()
    other[0, 1, 2, 1] = 1.0  # in the patch of rows 2 and 3, columns 0 and 1
    changed = (model(other, *said) != model(x, *said)).any(1)[0]
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[2:, :2] = True
    assert (changed == expected).all()


def test_without_their_places_tokens_are_a_set():
    model = randomise_(DiTTransformer2DModel(**SMALL | {"patch_size": 1})).eval().double()
    x, said = torch.randn(2, 3, 4, 4).double(), (torch.tensor([5, 9]), torch.tensor([1, 2]))
    with torch.no_grad():
        assert not torch.allclose(model(x.flip(3), *said), model(x, *said).flip(3))
        model.pos_embed.pos_embed.zero_()
        torch.testing.assert_close(model(x.flip(3), *said), model(x, *said).flip(3))


def test_each_place_has_a_vector_of_its_own():
    places = get_2d_sincos_pos_embed(16, 5)
    assert places.shape == (25, 16)
    assert (torch.cdist(places, places) + torch.eye(25) > 0.1).all()


def test_it_takes_flow_matching_and_its_sampler(inputs):
    model = DiTTransformer2DModel(**SMALL)
    scheduler = FlowMatchEulerDiscreteScheduler()
    noise = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    loss = DenoisingLoss(model, scheduler)(inputs[0], noise, inputs[1], inputs[2])
    torch.testing.assert_close(
        loss, (noise - inputs[0]).square().mean()
    )  # as long as it says nothing
    torch.testing.assert_close(
        sample_by_label(model, scheduler, noise, inputs[2], 4), noise
    )  # and stays where it is


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_size": 5}, "sample_size"),
        ({"attention_head_dim": 3}, "multiple of 4"),
        ({"num_layers": 0}, "layer"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DiTTransformer2DModel(**{**SMALL, **changes})


def test_inputs_that_do_not_fit_are_refused(inputs):
    model = DiTTransformer2DModel(**SMALL)
    with pytest.raises(ValueError, match=r"expected hidden_states \(B, 3, 4, 4\)"):
        model(inputs[0][..., :2], *inputs[1:])
    with pytest.raises(ValueError, match="a label each"):
        model(inputs[0], inputs[1], inputs[2][:1])
    with pytest.raises(ValueError, match="activation_fn"):
        DiTTransformer2DModel.from_config({**SMALL, "activation_fn": "geglu"})
