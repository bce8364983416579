import math

import pytest
import torch

from minildm.classifiers import ImageClassifier
from minildm.losses import contrastive_loss, perceptual_loss, reconstruction_loss


def pictures():
    return torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def critic():
    return ImageClassifier(8, num_classes=2, block_out_channels=(4, 8), feature_dim=4).eval()


def test_a_perfect_reconstruction_costs_nothing():
    images, _ = pictures()
    assert reconstruction_loss(images, images) == perceptual_loss(critic(), images, images) == 0


def test_the_loss_of_a_batch_is_the_mean_of_its_parts():
    """So that processes which share a batch follow the gradient of the whole."""
    images, others = pictures()
    network = critic()
    for loss in (reconstruction_loss, lambda a, b: perceptual_loss(network, a, b)):
        parts = [loss(a, b) for a, b in zip(others.split(2), images.split(2), strict=True)]
        torch.testing.assert_close(loss(others, images), torch.stack(parts).mean())


def test_the_perceptual_loss_does_not_depend_on_how_loud_a_layer_is():
    images, others = pictures()
    network = critic()
    before = perceptual_loss(network, others, images)
    for parameter in network.blocks[-1][4].parameters():  # the last normalisation's scale and shift
        parameter.data *= 10
    torch.testing.assert_close(perceptual_loss(network, others, images), before)


def test_gradients_reach_the_reconstruction_alone():
    images, others = (part.requires_grad_() for part in pictures().unbind())
    perceptual_loss(critic(), others, images).backward()
    assert others.grad.abs().sum() > 0 and images.grad is None


# Contrastive


def embeddings(batch=6, width=5):
    return torch.randn(2, batch, width, generator=torch.Generator().manual_seed(1)).unbind()


def test_the_contrastive_loss_is_that_of_transformers_clip():
    transformers = pytest.importorskip("transformers")
    small = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    config = transformers.CLIPConfig(
        text_config=dict(small, vocab_size=20, eos_token_id=19),
        vision_config=dict(small, image_size=8, patch_size=4),
        projection_dim=5,
        logit_scale_init_value=1.5,
    )
    clip = transformers.CLIPModel(config).eval()
    for projection in (clip.text_projection, clip.visual_projection):  # as drawn, all texts are nearly one
        torch.nn.init.normal_(projection.weight)
    ids = torch.arange(18).reshape(6, 3)
    output = clip(input_ids=ids, pixel_values=torch.randn(6, 3, 8, 8), return_loss=True)
    got = contrastive_loss(3 * output.image_embeds, output.text_embeds, clip.logit_scale.exp())  # length: no matter
    torch.testing.assert_close(got, output.loss)


def test_where_nothing_can_be_told_apart_the_contrastive_loss_is_a_guess_among_the_batch():
    images, texts = torch.ones(2, 6, 5)
    torch.testing.assert_close(contrastive_loss(images, texts, 7.0), torch.tensor(math.log(6)))


def test_a_right_pair_costs_less_than_a_wrong_one_and_the_other_way_round_costs_the_same():
    images, texts = embeddings()
    assert contrastive_loss(images, images, 10.0) < contrastive_loss(images, texts, 10.0)
    assert contrastive_loss(images, images, 10.0) < contrastive_loss(images, images.flip(0), 10.0)
    torch.testing.assert_close(contrastive_loss(images, texts, 10.0), contrastive_loss(texts, images, 10.0))


def test_the_contrastive_loss_wants_as_many_texts_as_images():
    images, texts = embeddings()
    with pytest.raises(ValueError, match=r"as many images as texts, .* got \(6, 5\) and \(5, 5\)"):
        contrastive_loss(images, texts[:5], 1.0)
