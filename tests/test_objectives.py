"""minildm.training.objectives: what each loss aims at, what it counts, what it leaves as it is, and
what the autoencoder and its discriminator learn from each other."""

import copy
from signal import SIGINT, raise_signal

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal, kl_divergence

from minildm.models import AutoencoderKL, ImageClassifier
from minildm.schedulers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from minildm.training import (
    AutoencoderLoss,
    ClassifierLoss,
    DenoisingLoss,
    PatchDiscriminator,
    TextConditionedUNet,
    Trainer,
    adaptive_weight,
    autoencoder_batches,
    discriminator_loss,
    generator_loss,
    perceptual_loss,
    reconstruction_loss,
    step_generator,
)

PREDICTIONS = ("epsilon", "sample", "v_prediction")


class Guess(nn.Module):
    """In a U-Net's place: always the same guess at x0 (B, C, h, w), said as the prediction type
    wants it."""

    def __init__(self, x0, scheduler):
        super().__init__()
        self.x0, self.scheduler = x0, scheduler

    def forward(self, sample, timestep):
        alpha, sigma = self.scheduler.alpha_sigma(timestep, sample)
        noise = (sample - alpha * self.x0) / sigma
        v = self.scheduler.get_velocity(self.x0, noise, timestep)
        return {"epsilon": noise, "sample": self.x0, "v_prediction": v}[
            self.scheduler.config.prediction_type
        ]


def loss(prediction_type, weighting):
    generator = torch.Generator().manual_seed(0)
    latents, guess, noise = torch.randn(3, 5, 2, 4, 4, generator=generator, dtype=torch.float64)
    scheduler = DDPMScheduler(prediction_type=prediction_type)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    loss_of = DenoisingLoss(Guess(guess, scheduler), scheduler, weighting)
    return loss_of(latents, noise, torch.tensor([5, 250, 500, 750, 980]))


class Zero(nn.Module):
    """In a network's place: says nothing, whatever it is told."""

    def forward(self, sample, timestep, *condition):
        return torch.zeros_like(sample)


def test_the_loss_aims_at_what_the_scheduler_says_that_is_predicted():
    """Of a network that says zero it is the mean square of the target, in closed form."""
    generator = torch.Generator().manual_seed(1)
    x0, noise = torch.randn(2, 4, 1, 8, 8, generator=generator)
    x0 = 3 * x0
    t = torch.tensor([0, 300, 600, 999])
    losses = {}
    for prediction_type in PREDICTIONS:
        scheduler = DDPMScheduler(prediction_type=prediction_type)
        losses[prediction_type] = DenoisingLoss(Zero(), scheduler)(x0, noise, t, torch.zeros(4))
    alpha_prod_t = DDPMScheduler().alphas_cumprod[t].reshape(-1, 1, 1, 1)
    v = alpha_prod_t.sqrt() * noise - (1 - alpha_prod_t).sqrt() * x0
    for prediction_type, target in {"epsilon": noise, "sample": x0, "v_prediction": v}.items():
        torch.testing.assert_close(losses[prediction_type], target.square().mean())
    assert len({round(loss.item(), 2) for loss in losses.values()}) == 3
    flow = DenoisingLoss(Zero(), FlowMatchEulerDiscreteScheduler())(x0, noise, t)
    torch.testing.assert_close(flow, (noise - x0).square().mean())


def test_the_network_sees_x_t_its_timestep_and_its_condition():
    seen = []

    class Sees(Zero):
        def forward(self, sample, timestep, *condition):
            seen.extend((sample, timestep, *condition))
            return super().forward(sample, timestep)

    scheduler = DDPMScheduler()
    x0, noise = torch.randn(2, 3, 2, 4, 4)
    t, labels, more = torch.tensor([5, 500, 990]), torch.arange(3), torch.randn(3, 7)
    DenoisingLoss(Sees(), scheduler)(x0, noise, t, labels, more)
    torch.testing.assert_close(seen[0], scheduler.add_noise(x0, noise, t))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    for got, expected in zip(seen[1:], (t, labels, more), strict=True):
        assert torch.equal(got, expected)


def test_a_text_is_encoded_once_and_every_sample_gets_the_context_of_its_own():
    class Reader(nn.Module):
        def forward(self, input_ids):
            self.read = input_ids
            return input_ids.float()[..., None].expand(-1, -1, 2)

    class Echo(nn.Module):
        def forward(self, sample, timestep, encoder_hidden_states):
            return encoder_hidden_states

    reader = Reader()
    input_ids = torch.tensor([[3, 4], [1, 2], [3, 4], [3, 4]])
    context = TextConditionedUNet(Echo(), reader)(torch.zeros(4, 1, 2, 2), 5, input_ids)
    assert torch.equal(context[..., 0], input_ids.float())
    assert len(reader.read) == 2


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_a_denoiser_without_a_weighting_counts_as_its_own_prediction_does(prediction_type):
    torch.testing.assert_close(loss(prediction_type, None), loss(prediction_type, prediction_type))


@pytest.mark.parametrize("weighting", [*PREDICTIONS, "min_snr"])
def test_with_a_weighting_one_mistake_costs_the_same_whatever_is_predicted(weighting):
    costs = torch.stack([loss(prediction_type, weighting) for prediction_type in PREDICTIONS])
    torch.testing.assert_close(costs, costs[:1].expand(3), rtol=1e-6, atol=0)


def test_the_weightings_differ():
    costs = [loss("v_prediction", weighting).item() for weighting in (*PREDICTIONS, "min_snr")]
    assert len({round(cost, 3) for cost in costs}) == 4


# The autoencoder's discriminator


def autoencoder_loss(start: int | None) -> AutoencoderLoss:
    """A small one; with a discriminator that the decoder hears after `start` steps, if any."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        mid_block_add_attention=False,
    )
    perceptual_net = ImageClassifier(16, 3, block_out_channels=(4, 4), feature_dim=4)
    discriminator = None if start is None else PatchDiscriminator(3, 8)
    return AutoencoderLoss(vae, perceptual_net, 0.3, 1e-3, discriminator, 0.7, start or 0).train()


def pictures(step: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = step_generator(0, "pictures", step)
    images = torch.rand(6, 3, 16, 16, generator=generator) * 2 - 1
    return images, torch.randn(6, 4, 8, 8, generator=generator)


def gradients(module: nn.Module) -> list[torch.Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None]


def test_before_its_start_the_discriminator_learns_and_the_autoencoder_does_not_hear_it():
    plain, loss = autoencoder_loss(None), autoencoder_loss(start=1)
    images, noise = pictures()
    plain(images, noise).backward()
    loss(images, noise).backward()
    for got, expected in zip(gradients(loss.vae), gradients(plain.vae), strict=True):
        torch.testing.assert_close(got, expected)
    assert gradients(loss.discriminator)[0].any()


def test_both_players_have_the_gradients_of_their_own_losses_and_of_no_other():
    """Each is taken alone, with the networks of the same seed, from the paper's formulas."""
    loss, alone = autoencoder_loss(start=0), autoencoder_loss(start=0)
    images, noise = pictures()
    loss(images, noise).backward()

    vae, discriminator = alone.vae, alone.discriminator
    posterior = vae.encode(images)
    decoded = vae.decode(posterior.mean + posterior.std * noise)
    likeness = reconstruction_loss(decoded, images)
    likeness = likeness + 0.3 * perceptual_loss(alone.perceptual_net, decoded, images)
    fooled = generator_loss(discriminator(decoded), "hinge")
    weight = adaptive_weight(likeness, fooled, vae.decoder.conv_out.weight)
    kl = posterior.kl().mean() / noise[0].numel()
    total = likeness + 1e-3 * kl + 0.7 * weight * fooled
    expected = torch.autograd.grad(total, list(vae.parameters()))
    for got, wanted in zip(gradients(loss.vae), expected, strict=True):
        torch.testing.assert_close(got, wanted)

    told = discriminator_loss(discriminator(images), discriminator(decoded.detach()), "hinge") / 2
    expected = torch.autograd.grad(told, list(discriminator.parameters()))
    for got, wanted in zip(gradients(loss.discriminator), expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_judged_it_is_the_loss_without_a_discriminator_and_no_step_is_counted():
    plain, loss = autoencoder_loss(None).eval(), autoencoder_loss(start=0).eval()
    assert loss(*pictures()) == plain(*pictures()) and loss.steps == 0


def test_interrupted_it_hears_the_discriminator_at_the_same_step(tmp_path):
    def trainer(batch=pictures):
        return Trainer("autoencoder", autoencoder_loss(start=6), batch, 1e-3, ema=0.2)

    def interrupting(step):
        if step == 4:
            raise_signal(SIGINT)
        return pictures(step)

    whole = trainer()
    expected = whole.train(10, progress=False)
    with pytest.raises(KeyboardInterrupt):
        trainer(interrupting).train(10, tmp_path, progress=False)
    resumed = trainer()
    assert resumed.train(10, tmp_path, progress=False) == expected
    for name, tensor in whole.loss.state_dict().items():
        assert torch.equal(tensor, resumed.loss.state_dict()[name]), name


def test_a_loss_compares_what_has_one_shape():
    """A network of one channel, or the noise of one picture, would be spread over all of them."""
    x0, noise = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    timesteps = torch.tensor([1, 2, 3, 4])

    def ask(x, t, *condition):
        return x[:, :1] if condition else x

    class Network(nn.Module):
        forward = staticmethod(ask)

    loss = DenoisingLoss(Network(), DDPMScheduler())
    assert loss(x0, noise, timesteps).ndim == 0
    expected = r"what a loss compares has one shape: expected \(4, 3, 8, 8\), got"
    with pytest.raises(ValueError, match=expected):
        loss(x0, noise, timesteps, "one channel")
    for other in (noise[:1], noise[:, :1]):
        with pytest.raises(ValueError, match=expected):
            loss(x0, other, timesteps)
        for pair in (reconstruction_loss, lambda *two: perceptual_loss(nn.Identity(), *two)):
            with pytest.raises(ValueError, match="what a loss compares has one shape"):
                pair(other, x0)
    for other in (timesteps[:1], torch.tensor(3), timesteps[:, None]):
        with pytest.raises(ValueError, match="expected a timestep for each of 4 samples, got"):
            loss(x0, noise, other)
    images, z = pictures()
    with pytest.raises(ValueError, match="what a loss compares has one shape"):
        autoencoder_loss(None)(images, z[:1])


# The autoencoder and the network that judges it


def judged_autoencoder():
    """An autoencoder's loss, and eight pictures with the noise of their z; the judge has seen
    pictures, so that its batch normalisation in training is not that in use."""
    vae = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        latent_channels=3,
        norm_num_groups=2,
        sample_size=8,
    )
    judge = ImageClassifier(8, num_classes=2, block_out_channels=(4, 6), feature_dim=4)
    images = torch.rand(24, 1, 8, 8) * 2 - 1
    for _ in range(3):
        judge(images)
    batch = autoencoder_batches(images, (3, 4, 4), batch_size=8, seed=0)
    return AutoencoderLoss(vae, judge.eval(), 0.3, 0.2), batch


def test_the_loss_of_an_autoencoder_is_the_weighted_sum_of_its_three_parts():
    """The KL of torch.distributions for each entry of z; the judge's maps as it is used, not as it
    is trained, even while the autoencoder trains."""
    loss, batch = judged_autoencoder()
    images, noise = batch(0)
    judge = copy.deepcopy(loss.perceptual_net).eval()
    got = loss.train()(images, noise)
    posterior = loss.vae.encode(images)
    rebuilt = loss.vae.decode(posterior.mean + posterior.std * noise)
    kl = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0, 1))
    perceptual = torch.stack(
        [
            ((a - b).square().mean((1, 2, 3)) / b.square().mean((1, 2, 3))).mean()
            for a, b in zip(judge.feature_maps(rebuilt), judge.feature_maps(images), strict=True)
        ]
    )
    expected = (rebuilt - images).abs().mean() + 0.3 * perceptual.mean() + 0.2 * kl.mean()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=0)


def test_training_an_autoencoder_leaves_its_judge_as_it_was():
    loss, batch = judged_autoencoder()
    judge = copy.deepcopy(loss.perceptual_net.state_dict())
    coder = copy.deepcopy(loss.vae.state_dict())

    def watched(step):
        assert not any(module.training for module in loss.perceptual_net.modules())
        assert loss.vae.training
        return batch(step)

    Trainer("autoencoder", loss, watched, learning_rate=1e-2).train(5, progress=False)
    for name, value in loss.perceptual_net.state_dict().items():
        assert torch.equal(value, judge[name]), name
    assert all(not torch.equal(value, coder[name]) for name, value in loss.vae.state_dict().items())


def test_the_loss_of_a_classifier_asks_for_nineteen_parts_of_its_class_and_one_of_all():
    """Label smoothing: minus the mean of log p under 0.95 for the class and 0.05 spread over all
    (Szegedy et al. 2016, section 7)."""
    classifier = ImageClassifier(8, num_classes=4, block_out_channels=(4, 6), feature_dim=4)
    images, labels = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 3, 1, 1])
    loss = ClassifierLoss(classifier).eval()(images, labels)
    asked = 0.95 * F.one_hot(labels, 4) + 0.05 / 4
    torch.testing.assert_close(loss, -(asked * classifier(images).log_softmax(1)).sum(1).mean())


def test_texts_and_network_both_learn_from_the_loss_of_a_denoiser():
    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, sample, timestep, context):
            return self.weight * sample + context.mean((1, 2)).reshape(-1, 1, 1, 1)

    words = nn.Embedding(5, 2)
    loss = DenoisingLoss(TextConditionedUNet(Adds(), words), DDPMScheduler())
    x0, noise = torch.randn(2, 4, 1, 4, 4)
    input_ids = torch.tensor([[0, 1], [0, 1], [3, 0], [1, 1]])
    loss(x0, noise, torch.tensor([5, 300, 600, 900]), input_ids).backward()
    assert loss.predict.unet.weight.grad.abs() > 0
    assert torch.equal(words.weight.grad.any(1), torch.tensor([True, True, False, True, False]))
