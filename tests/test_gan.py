"""minildm.variations.gan: losses in closed form, what each player may change, a game that repeats
itself exactly."""

import copy

import pytest
import torch

from minildm.variations import (
    GANDiscriminator,
    GANGenerator,
    GANTraining,
    r1_penalty,
    sample_gan,
)

SMALL = {"sample_size": 8, "block_out_channels": (4, 8)}
PICTURES, LABELS = torch.linspace(-1, 1, 256).view(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])


def players(seed=0, channels=1, **options):
    torch.manual_seed(seed)
    generator = GANGenerator(
        **SMALL, out_channels=channels, num_classes=3, latent_dim=5, norm_num_groups=2
    )
    return generator, GANDiscriminator(**SMALL, in_channels=channels, num_classes=3, **options)


def game(seed=0, **options):
    generator = torch.Generator().manual_seed(9)
    images, labels = torch.rand(20, 1, 8, 8, generator=generator) * 2 - 1, torch.arange(20) % 3
    return GANTraining(*players(), images, labels, seed, batch_size=4, **options)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_shapes_are_those_of_pictures_and_of_one_answer_each(channels):
    generator, discriminator = players(channels=channels)
    z, labels = torch.randn(6, 5), torch.arange(6) % 3
    pictures = generator(z, labels)
    assert pictures.shape == (6, channels, 8, 8) and pictures.abs().max() <= 1
    assert discriminator(pictures, labels).shape == (6,)


def test_the_generator_heeds_its_noise_and_its_class():
    generator, _ = players()
    z, labels = torch.randn(2, 5), torch.tensor([0, 0])
    assert (generator(z[:1], labels[:1]) - generator(z[1:], labels[:1])).abs().max() > 1e-3
    assert (generator(z[:1], labels[:1]) - generator(z[:1], labels[:1] + 1)).abs().max() > 1e-4


def test_between_two_classes_the_discriminator_differs_by_a_projection_of_its_features():
    """Miyato & Koyama 2018, eq. 5: logit(x, a) - logit(x, b) = (e_a - e_b)·φ(x), linear in the
    embedding."""
    _, discriminator = players()
    images = torch.rand(4, 1, 8, 8)
    zero, one, two = (discriminator(images, torch.full((4,), label)) for label in range(3))
    with torch.no_grad():
        embedding = discriminator.class_embedding.weight
        embedding[2] = 2 * embedding[1] - embedding[0]
        again = discriminator(images, torch.full((4,), 2))
    torch.testing.assert_close(again - zero, 2 * (one - zero))
    assert (two - again).abs().max() > 1e-4


def test_the_penalty_of_a_quadratic_discriminator_is_its_slope_squared():
    weights = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    images = torch.randn(5, 1, 2, 2)

    def discriminator(x, labels):
        return 0.5 * (weights * x.square()).sum((1, 2, 3))

    expected = (weights * images).square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(r1_penalty(discriminator, images, torch.zeros(5)), expected)


def test_the_penalty_teaches_the_discriminator_to_be_flat():
    _, discriminator = players()
    images, labels = torch.rand(8, 1, 8, 8), torch.arange(8) % 3
    before = r1_penalty(discriminator, images, labels).item()
    optimizer = torch.optim.Adam(discriminator.parameters(), 0.01)
    for _ in range(20):
        optimizer.zero_grad()
        r1_penalty(discriminator, images, labels).backward()
        optimizer.step()
    assert r1_penalty(discriminator, images, labels).item() < 0.2 * before


def test_spectral_normalisation_brings_every_layer_to_a_gain_of_one():
    _, discriminator = players(spectral_norm=True)
    discriminator.train()
    for _ in range(200):  # one power iteration each
        discriminator(torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))
    layers = [m for m in discriminator.modules() if hasattr(m, "parametrizations")]
    assert len(layers) == 7
    for layer in layers:
        assert float(
            torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        ) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("options", [{}, {"loss": "hinge", "r1": 0.0}, {"r1_every": 2}])
def test_a_game_played_in_two_parts_is_the_game_played_at_once(options):
    whole, parts = game(**options).run(4, progress=False), game(**options)
    parts.run(1, progress=False).run(3, progress=False)
    assert parts.losses == whole.losses and len(whole.losses) == whole.step == 4
    for ours, theirs in zip(
        parts.generator.parameters(), whole.generator.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_another_seed_is_another_game():
    assert game(seed=0).run(2, progress=False).losses != game(seed=1).run(2, progress=False).losses


def test_each_player_is_changed_by_its_own_loss_alone():
    played = game(r1=0.0)
    before = copy.deepcopy(played.discriminator.state_dict())
    played.optimizers[1].step = lambda: None  # the discriminator stands still
    generator_before = copy.deepcopy(played.generator.state_dict())
    played.play()
    torch.testing.assert_close(played.discriminator.state_dict(), before, rtol=0, atol=0)
    assert any((a != generator_before[k]).any() for k, a in played.generator.state_dict().items())


def test_the_average_draws_and_leaves_the_generator_alone():
    played = game(ema=3.0).run(5, progress=False)
    before = [p.clone() for p in played.generator.parameters()]
    averaged = played.averaged()
    for p, average in zip(averaged.parameters(), played.average.shadow_params, strict=True):
        assert torch.equal(p, average)
    assert any(
        (p != a).any()
        for p, a in zip(played.generator.parameters(), averaged.parameters(), strict=True)
    )
    labels = torch.arange(7) % 3
    one, other = (
        sample_gan(averaged, labels, torch.Generator().manual_seed(1), batch) for batch in (7, 2)
    )
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert all(
        torch.equal(a, b) for a, b in zip(before, played.generator.parameters(), strict=True)
    )


def test_the_penalty_counts_for_the_steps_without_it(monkeypatch):
    taken = []
    monkeypatch.setattr(
        "minildm.variations.gan.r1_penalty",
        lambda *a: taken.append(1) or torch.zeros((), requires_grad=True),
    )
    game(r1_every=3).run(7, progress=False)
    assert len(taken) == 3  # steps 0, 3 and 6


def test_it_stops_when_its_time_is_over():
    played = game().run(seconds=0.2, progress=False)
    assert 0 < played.step < 10_000 and 0.2 <= played.seconds < 5


def test_a_saved_player_comes_back(tmp_path):
    for number, player in enumerate(players()):
        player.save_pretrained(tmp_path / str(number))
        again = type(player).from_pretrained(tmp_path / str(number))
        torch.testing.assert_close(again.state_dict(), player.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda g, d: g(torch.zeros(2, 4), torch.zeros(2, dtype=int)), r"expected z \(B, 5\)"),
        (lambda g, d: g(torch.zeros(2, 5), torch.zeros(3, dtype=int)), r"labels \(B,\)"),
        (
            lambda g, d: d(torch.zeros(2, 1, 9, 8), torch.zeros(2, dtype=int)),
            r"expected images \(B, 1, 8, 8\)",
        ),
        (
            lambda g, d: GANGenerator(sample_size=28, block_out_channels=(8, 8, 8)),
            "3 halvings divide, got 28",
        ),
        (lambda g, d: game().run(), "expected steps or seconds, got neither"),
        (lambda g, d: game(r1=-1.0), "expected r1 >= 0"),
        (lambda g, d: game(r1_every=0), "every step or fewer, got 1 and 0"),
        (lambda g, d: GANTraining(g, d, PICTURES, LABELS[:3]), r"for each of 4 images, got \(3,\)"),
        (lambda g, d: GANTraining(g, d, PICTURES, LABELS + 1), r"a label below 3 .* from 1 to 3"),
        (lambda g, d: GANTraining(g, d, PICTURES.abs(), LABELS), r"expected images in \[-1, 1\]"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*players())


def test_a_loss_that_is_not_finite_ends_the_game_with_advice():
    played = game()
    played.images[:] = float("nan")
    with pytest.raises(ValueError, match="a loss is not finite; try lower"):
        played.run(1, progress=False)
