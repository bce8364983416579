import math

import pytest
import torch
import torch.nn.functional as F
from diffusers.training_utils import compute_snr

from minildm.models import ImageClassifier
from minildm.schedulers import DDPMScheduler
from minildm.training import (
    PatchDiscriminator,
    adaptive_weight,
    contrastive_loss,
    discriminator_loss,
    generator_loss,
    perceptual_loss,
    reconstruction_loss,
    snr_weights,
)


def pictures():
    return torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def perceptual_net():
    return ImageClassifier(8, num_classes=2, block_out_channels=(4, 8), feature_dim=4).eval()


def test_a_perfect_reconstruction_costs_nothing():
    images, _ = pictures()
    assert (
        reconstruction_loss(images, images)
        == perceptual_loss(perceptual_net(), images, images)
        == 0
    )


def test_the_loss_of_a_reconstruction_is_its_mean_absolute_error():
    images, others = pictures()
    torch.testing.assert_close(reconstruction_loss(others, images), F.l1_loss(others, images))


def test_the_perceptual_loss_is_a_relative_error_of_each_layer_and_picture():
    images, others = pictures()
    network, terms = perceptual_net(), []
    for made, real in zip(others, images, strict=True):
        maps = zip(network.feature_maps(made[None]), network.feature_maps(real[None]), strict=True)
        terms += [(a - b).norm() ** 2 / b.norm() ** 2 for a, b in maps]
    expected = torch.stack(terms).mean()
    torch.testing.assert_close(perceptual_loss(network, others, images), expected)


def test_the_loss_of_a_batch_is_the_mean_of_its_parts():
    """So that processes which share a batch follow the gradient of the whole."""
    images, others = pictures()
    network = perceptual_net()
    for loss in (reconstruction_loss, lambda a, b: perceptual_loss(network, a, b)):
        parts = [loss(a, b) for a, b in zip(others.split(2), images.split(2), strict=True)]
        torch.testing.assert_close(loss(others, images), torch.stack(parts).mean())


def test_the_perceptual_loss_does_not_depend_on_how_loud_a_layer_is():
    images, others = pictures()
    network = perceptual_net()
    before = perceptual_loss(network, others, images)
    for parameter in network.blocks[-1][4].parameters():  # the last normalisation's scale and shift
        parameter.data *= 10
    torch.testing.assert_close(perceptual_loss(network, others, images), before)


def test_the_discriminators_slope_is_the_papers_and_its_channels_double_once():
    network = PatchDiscriminator()
    slopes = [layer.negative_slope for layer in network if isinstance(layer, torch.nn.LeakyReLU)]
    widths = [layer.out_channels for layer in network if isinstance(layer, torch.nn.Conv2d)]
    assert slopes == [0.2, 0.2] and widths == [16, 32, 1]
    assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 2, 2)
    assert network[3].num_groups == 1  # one group: it judges a picture's layers together


def test_gradients_reach_the_reconstruction_alone():
    images, others = (part.requires_grad_() for part in pictures().unbind())
    perceptual_loss(perceptual_net(), others, images).backward()
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
    for projection in (
        clip.text_projection,
        clip.visual_projection,
    ):  # as drawn, all texts are nearly one
        torch.nn.init.normal_(projection.weight)
    ids = torch.arange(18).reshape(6, 3)
    output = clip(input_ids=ids, pixel_values=torch.randn(6, 3, 8, 8), return_loss=True)
    got = contrastive_loss(
        3 * output.image_embeds, output.text_embeds, clip.logit_scale.exp()
    )  # length: no matter
    torch.testing.assert_close(got, output.loss)


def test_where_nothing_can_be_told_apart_the_contrastive_loss_is_a_guess_among_the_batch():
    images, texts = torch.ones(2, 6, 5)
    torch.testing.assert_close(contrastive_loss(images, texts, 7.0), torch.tensor(math.log(6)))


def test_a_right_pair_costs_less_than_a_wrong_one_and_the_other_way_round_costs_the_same():
    images, texts = embeddings()
    assert contrastive_loss(images, images, 10.0) < contrastive_loss(images, texts, 10.0)
    assert contrastive_loss(images, images, 10.0) < contrastive_loss(images, images.flip(0), 10.0)
    torch.testing.assert_close(
        contrastive_loss(images, texts, 10.0), contrastive_loss(texts, images, 10.0)
    )


def test_the_contrastive_loss_wants_as_many_texts_as_images():
    images, texts = embeddings()
    with pytest.raises(ValueError, match=r"as many images as texts, .* got \(6, 5\) and \(5, 5\)"):
        contrastive_loss(images, texts[:5], 1.0)


# Adversarial


def test_the_adversarial_losses_have_their_closed_forms():
    real, fake = torch.tensor([0.3, -2.0, 4.0]), torch.tensor([1.5, -0.2, -3.0])
    told = F.binary_cross_entropy_with_logits(
        torch.cat([real, fake]), torch.tensor([1.0] * 3 + [0.0] * 3)
    )
    torch.testing.assert_close(discriminator_loss(real, fake), 2 * told)
    torch.testing.assert_close(
        generator_loss(fake), F.binary_cross_entropy_with_logits(fake, torch.ones(3))
    )
    hinge = (real.neg() + 1).clamp(min=0).mean() + (fake + 1).clamp(min=0).mean()
    torch.testing.assert_close(discriminator_loss(real, fake, "hinge"), hinge)
    assert generator_loss(fake, "hinge") == -fake.mean()
    for loss in (lambda: discriminator_loss(real, fake, "ls"), lambda: generator_loss(fake, "ls")):
        with pytest.raises(
            ValueError, match="expected a loss of non_saturating or hinge, got 'ls'"
        ):
            loss()


def test_the_adaptive_weight_makes_both_losses_pull_equally_hard():
    """In closed form: of two linear losses the gradients are their coefficients, and weighted they
    are equally long, however loud the adversarial one is."""
    last_layer = torch.zeros(3, requires_grad=True)
    a, b = torch.tensor([3.0, 0.0, 4.0]), torch.tensor([0.0, 2.0, 0.0])
    for loudness in (0.1, 1.0, 50.0):
        weight = adaptive_weight(a @ last_layer, loudness * b @ last_layer, last_layer)
        torch.testing.assert_close(weight, torch.tensor(5 / (2 * loudness + 1e-4)))
        assert not weight.requires_grad and last_layer.grad is None
    silent = adaptive_weight(a @ last_layer, 0 * b @ last_layer, last_layer)
    assert silent == 1e4  # Esser et al. keep it finite so


def test_the_hinge_is_zero_beyond_the_margin_and_two_where_it_cannot_tell():
    assert discriminator_loss(torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -2.0]), "hinge") == 0
    assert discriminator_loss(torch.zeros(4), torch.zeros(4), "hinge") == 2
    assert discriminator_loss(-torch.ones(4), torch.ones(4), "hinge") == 4


def test_the_best_discriminator_answers_the_sign_of_the_likelihood_ratio():
    """A closed form: where a share p of what it sees is real, the hinge loss is least at +1 if p >
    1/2, else at -1."""
    answers = torch.linspace(-1.5, 1.5, 301)
    for share, best in ((0.8, 1.0), (0.3, -1.0)):
        real, fake = torch.relu(1 - answers), torch.relu(1 + answers)
        losses = [
            share * discriminator_loss(a, torch.tensor(-9.0), "hinge")
            + (1 - share) * discriminator_loss(torch.tensor(9.0), a, "hinge")
            for a in answers
        ]
        torch.testing.assert_close(torch.stack(losses), share * real + (1 - share) * fake)
        assert abs(float(answers[torch.stack(losses).argmin()]) - best) < 0.02


@pytest.mark.parametrize("kind", ["non_saturating", "hinge"])
def test_generator_and_discriminator_pull_against_each_other(kind):
    fake = torch.zeros(3, 1, 2, 2, requires_grad=True)
    made = torch.autograd.grad(generator_loss(fake, kind), fake)[0]
    judged = torch.autograd.grad(discriminator_loss(torch.zeros(3, 1, 2, 2), fake, kind), fake)[0]
    assert (made < 0).all() and (judged > 0).all()


def test_a_patch_is_judged_by_its_18_pixels_alone():
    """By what reaches it through the convolutions; the normalisation, which sees everything, is
    taken out."""
    network = PatchDiscriminator(3, 4)
    network[3] = torch.nn.Identity()
    x = torch.randn(1, 3, 64, 64, requires_grad=True)
    logits = network(x)
    assert logits.shape == (1, 1, 16, 16)
    (gradient,) = torch.autograd.grad(logits[0, 0, 8, 8], x)
    rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == 18


PREDICTIONS = ("epsilon", "sample", "v_prediction")


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("weighting", [*PREDICTIONS, "min_snr"])
def test_a_weighted_loss_is_the_same_under_each_name(prediction_type, weighting):
    """The weighted error of a wrong x0, said as epsilon or v by the scheduler's formulas, is what
    it is for x0."""
    scheduler = DDPMScheduler(prediction_type=prediction_type)
    generator = torch.Generator().manual_seed(0)
    x0, wrong_x0, noise = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
    t = torch.tensor([10, 200, 400, 600, 800, 990])
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    xt, (alpha, sigma) = scheduler.add_noise(x0, noise, t), scheduler.alpha_sigma(t, x0)
    wrong_noise = (xt - alpha * wrong_x0) / sigma

    def said(x0, noise):
        v = scheduler.get_velocity(x0, noise, t)
        return {"epsilon": noise, "sample": x0, "v_prediction": v}[prediction_type]

    alpha_prod_t = scheduler.alphas_cumprod[t]
    error = (said(x0, noise) - said(wrong_x0, wrong_noise)).square().sum(1)
    as_x0 = (x0 - wrong_x0).square().sum(1)
    got = snr_weights(alpha_prod_t, prediction_type, weighting) * error
    torch.testing.assert_close(got, snr_weights(alpha_prod_t, "sample", weighting) * as_x0)


def test_min_snr_weights_are_those_of_diffusers_training_script():
    scheduler, t = DDPMScheduler(), torch.arange(1000)
    snr = compute_snr(scheduler, t)
    clipped = torch.minimum(snr, torch.tensor(5.0))
    alpha_prod_t = scheduler.alphas_cumprod
    for prediction_type, divisor in (("epsilon", snr), ("v_prediction", snr + 1), ("sample", 1.0)):
        torch.testing.assert_close(
            snr_weights(alpha_prod_t, prediction_type), clipped / divisor, rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_its_own_weighting_is_the_plain_loss(prediction_type):
    alpha_prod_t = torch.linspace(0.001, 0.999, 50)
    torch.testing.assert_close(
        snr_weights(alpha_prod_t, prediction_type, prediction_type), torch.ones(50)
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((torch.tensor([1.5]), "epsilon"), r"expected alphas_cumprod in \[0, 1\], got 1.5"),
        (
            (torch.tensor([0.5]), "score"),
            "expected a prediction_type of epsilon, sample, v_prediction, got 'score'",
        ),
        (
            (torch.tensor([0.5]), "epsilon", "snr"),
            "expected a weighting of epsilon, .*min_snr, got 'snr'",
        ),
        ((torch.tensor([-0.1]), "epsilon"), r"expected alphas_cumprod in \[0, 1\], got -0.1"),
        ((torch.tensor([0.5]), "min_snr"), "a prediction_type of .*, got 'min_snr'"),
        ((torch.tensor([1.0]), "sample"), "some signal and some noise to predict sample"),
        (
            (torch.tensor([0.0]), "epsilon"),
            "expected some signal and some noise to predict epsilon",
        ),
    ],
)
def test_weights_that_make_no_sense_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        snr_weights(*arguments)
