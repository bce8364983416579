"""Attention against its formula, and the weights one can look at."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from minildm.evaluation import peak_memory
from minildm.models import Attention, image_to_tokens, tokens_to_image
from minildm.testing import randomise_


def test_attention_is_its_formula():
    layer = randomise_(Attention(6, heads=2, dim_head=4, cross_attention_dim=5, bias=True)).double()
    x, context = torch.randn(2, 3, 6).double(), torch.randn(2, 7, 5).double()
    q, k, v = layer.to_q(x), layer.to_k(context), layer.to_v(context)
    heads = [
        torch.softmax(q[..., part] @ k[..., part].mT / 2, dim=-1) @ v[..., part]
        for part in (slice(0, 4), slice(4, 8))
    ]
    torch.testing.assert_close(
        layer(x, context), layer.to_out[0](torch.cat(heads, dim=-1)), rtol=1e-12, atol=1e-12
    )


def test_without_a_context_it_attends_to_itself():
    layer = randomise_(Attention(6, heads=2, dim_head=3))
    x = torch.randn(2, 4, 6)
    torch.testing.assert_close(layer(x), layer(x, x), rtol=0, atol=0)


def test_attention_scores_are_the_weights_that_the_layer_uses():
    layer = randomise_(Attention(6, heads=2, dim_head=4, cross_attention_dim=5))
    x, context, maps = torch.randn(2, 3, 6), torch.randn(2, 7, 5), []
    layer.register_forward_hook(
        lambda layer, args, _: maps.append(layer.get_attention_scores(*args))
    )
    out = layer(x, context)
    (weights,) = maps
    assert weights.shape == (2, 2, 3, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 3))
    attended = (weights @ layer.split_heads(layer.to_v(context))).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer.to_out[0](attended), out)


@pytest.mark.parametrize("slice_size", ["auto", "max", 1, 3, 4])
def test_attention_in_slices_is_the_same(slice_size):
    layer = randomise_(Attention(6, heads=4, dim_head=4, cross_attention_dim=5))
    x, context = torch.randn(3, 9, 6), torch.randn(3, 7, 5)
    expected = layer(x, context)
    layer.set_attention_slice(slice_size)
    torch.testing.assert_close(layer(x, context), expected, rtol=1e-6, atol=1e-6)
    layer.set_attention_slice(None)
    assert layer.slice_size is None


def test_slices_share_the_memory_of_the_table_of_weights():
    """Where it is written down: by PyTorch's plain kernel, not by its fused one."""
    layer, x = Attention(16, heads=4, dim_head=4), torch.randn(1, 256, 16)
    table = 256 * 256 * 4

    def peak(slice_size, kernel):
        layer.set_attention_slice(slice_size)
        with torch.no_grad(), sdpa_kernel(kernel):
            return peak_memory(lambda: layer(x))

    whole, half, one = (peak(size, SDPBackend.MATH) for size in (None, 2, 1))
    assert whole > 4 * table
    assert (whole - half) / (whole - one) == pytest.approx(2 / 3, rel=0.05)
    assert peak(None, SDPBackend.FLASH_ATTENTION) < table


@pytest.mark.parametrize("slice_size", [0, 5, "half"])
def test_impossible_slices_are_refused(slice_size):
    with pytest.raises(
        ValueError, match='expected a slice_size of "auto", "max", None or 1 to 4, got'
    ):
        Attention(6, heads=4, dim_head=4).set_attention_slice(slice_size)


def test_tokens_are_the_pixels_row_by_row():
    image = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    tokens = image_to_tokens(image)
    torch.testing.assert_close(tokens[1, 2 * 5 + 3], image[1, :, 2, 3])
    torch.testing.assert_close(tokens_to_image(tokens, image.shape), image)


def test_channels_last_images_become_tokens_without_a_copy():
    image = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    tokens = image_to_tokens(image)
    assert tokens.data_ptr() == image.data_ptr()
    back = tokens_to_image(tokens, image.shape)
    assert back.data_ptr() == image.data_ptr() and back.is_contiguous(
        memory_format=torch.channels_last
    )


def test_a_context_of_other_rows_is_not_spread_over_the_samples():
    layer, x, context = Attention(8, 2, 4, 6), torch.randn(3, 5, 8), torch.randn(3, 4, 6)
    assert layer(x, context).shape == (3, 5, 8)
    for ask in (layer, layer.get_attention_scores):
        for rows in (context[:1], context[:2]):
            with pytest.raises(ValueError, match="expected a context for each of 3 samples, got"):
                ask(x, rows)
        with pytest.raises(ValueError, match="expected a context for each of 1 samples, got 3"):
            ask(x[:1], context)
