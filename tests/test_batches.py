"""minildm.training.batches: each step has its own, which are the same again; what is drawn for one
thing says nothing of another."""

import pytest
import scipy.stats
import torch

from minildm.training import (
    autoencoder_batches,
    batch_indices,
    classifier_batches,
    denoiser_batches,
    label_batches,
    pixel_batches,
    spread_timesteps,
    step_generator,
)


def test_each_step_has_randomness_of_its_own_which_is_the_same_again():
    def draw(*key):
        return torch.randn(4, generator=step_generator(*key))

    torch.testing.assert_close(draw(0, "a", 1), draw(0, "a", 1), rtol=0, atol=0)
    others = [draw(1, "a", 1), draw(0, "b", 1), draw(0, "a", 2), draw(2**32, "a", 1)]
    assert all(not torch.equal(draw(0, "a", 1), other) for other in others)


def test_every_epoch_sees_every_example_once_each_in_another_order():
    seen = torch.cat([batch_indices(10, 4, 0, "a", step) for step in range(5)])
    first, second = seen[:10], seen[10:]
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(10))
    assert first.tolist() != second.tolist()


def test_a_batch_larger_than_the_data_goes_round_again():
    assert batch_indices(3, 8, 0, "a", 0).bincount().tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


def test_spread_timesteps_come_once_from_every_equal_part_and_all_of_them_come():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([spread_timesteps(8, generator, 1000) for _ in range(2000)])
    assert torch.equal((drawn // 125).sort(1).values, torch.arange(8).expand(2000, 8))
    assert drawn.min() == 0 and drawn.max() == 999
    counts = drawn.flatten().bincount(minlength=1000)
    assert scipy.stats.chisquare(counts.view(100, 10).sum(1).numpy()).pvalue > 0.01


def test_the_timesteps_of_a_batch_are_spread_evenly():
    images, noise, timesteps = pixel_batches(torch.zeros(100, 1, 4, 4), 20, seed=0)(3)
    assert images.shape == noise.shape == (20, 1, 4, 4)
    assert (timesteps // 50).sort().values.tolist() == list(range(20)), "one in each twentieth"


def test_a_batch_depends_on_seed_and_step_alone():
    images = torch.randn(100, 1, 4, 4)
    first, again = (pixel_batches(images, 8, seed=1)(5) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b)
    assert not torch.equal(first[1], pixel_batches(images, 8, seed=2)(5)[1])


def test_batches_follow_the_bells_and_keep_each_latent_with_its_label():
    labels = torch.arange(50) % 10
    mean = labels.float().reshape(-1, 1, 1, 1).expand(-1, 2, 8, 8)
    batch = label_batches(mean, torch.full(mean.shape, 0.1), labels, batch_size=50, seed=0)
    latents, noise, timesteps, which = batch(3)
    off = latents - which.reshape(-1, 1, 1, 1)
    assert abs(off.std() - 0.1) < 0.005 and abs(off.mean()) < 0.005
    assert (
        abs(torch.corrcoef(torch.stack([off.flatten(), noise.flatten()]))[0, 1]) < 0.05
    )  # two separate noises
    assert (timesteps.sort().values.diff() > 0).all() and timesteps.max() - timesteps.min() > 900
    for one, other in zip(batch(3), (latents, noise, timesteps, which), strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.equal(batch(4)[1], noise)


@pytest.mark.parametrize("other", [(3,), (5,), (1,), (4, 1)])
def test_what_belongs_to_a_picture_has_its_row(other):
    """One label or caption too many would leave each picture with another's."""
    wrong, mean = torch.zeros(other, dtype=torch.long), torch.randn(4, 1, 2, 2)
    zero, ids = torch.zeros_like(mean), [torch.tensor([[3, 4]])]
    texts = {"caption_ids": ids, "empty_ids": ids[0][0], "prompt_dropout": 0.5}
    with pytest.raises(ValueError, match="expected a mean, a std and a label of each image, got"):
        label_batches(mean, zero, wrong, 2, 0)
    with pytest.raises(ValueError, match="expected a label for each of 4 images, got"):
        classifier_batches(mean, wrong, stream="mine", batch_size=2, seed=0)
    with pytest.raises(ValueError, match="expected a mean, a std and a caption of each image, got"):
        denoiser_batches(mean, zero, caption_of=wrong, **texts, batch_size=2, seed=0)
    right = torch.zeros(4, dtype=torch.long)
    for std in (zero[:1], zero[:, :, :1]):
        with pytest.raises(ValueError, match="expected a mean, a std and a label of each image"):
            label_batches(mean, std, right, 2, 0)
    one = texts | {"empty_ids": torch.tensor([7])}  # would be written over the whole of a prompt
    with pytest.raises(ValueError, match=r"expected caption_ids \(P, L\) and empty_ids \(L,\)"):
        denoiser_batches(mean, zero, caption_of=right, **one, batch_size=2, seed=0)


def test_every_kind_of_batch_has_the_stream_that_the_shipped_models_were_trained_with():
    """The names of the streams are part of the seed: another name would train other weights."""
    images = torch.arange(12.0).view(12, 1, 1, 1).expand(-1, 1, 2, 2) / 6 - 1
    labels = torch.arange(12)
    mean = torch.randn(12, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    texts = {
        "caption_of": labels,
        "caption_ids": [torch.tensor([[label]]) for label in range(12)],
        "empty_ids": torch.tensor([99]),
        "prompt_dropout": 0.0,
    }
    zero = torch.zeros_like(mean)
    rows = {
        "autoencoder": autoencoder_batches(images, (1, 1, 1), batch_size=5, seed=3)(7)[0],
        "pixels": pixel_batches(images, 5, seed=3)(7)[0],
        "labels": label_batches(mean, zero, labels, 5, seed=3)(7)[3],
        "denoiser": denoiser_batches(mean, zero, **texts, batch_size=5, seed=3)(7)[3],
        "mine": classifier_batches(images, labels, stream="mine", batch_size=5, seed=3)(7)[1],
    }
    for stream, got in rows.items():
        index = batch_indices(12, 5, 3, stream, 7)
        expected = images[index] if got.ndim == 4 else labels[index].view_as(got)
        assert torch.equal(got, expected), stream


def test_a_prompt_is_left_out_as_often_as_asked_and_every_phrasing_comes():
    ids = [torch.tensor([[10 * c + p] for p in range(3)]) for c in range(2)]
    mean = torch.randn(40, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    batch = denoiser_batches(
        mean,
        torch.zeros_like(mean),
        caption_of=torch.arange(40) % 2,
        caption_ids=ids,
        empty_ids=torch.tensor([99]),
        prompt_dropout=0.25,
        batch_size=40,
        seed=0,
    )
    said = torch.cat([batch(step)[3] for step in range(50)]).flatten()
    counts = said.bincount(minlength=100)
    assert abs(counts[99] / len(said) - 0.25) < 0.03
    for code in (0, 1, 2, 10, 11, 12):
        assert abs(counts[code] / len(said) - 0.75 / 6) < 0.02


def text_batches(mean, std, caption_of, phrasings=(3, 3), dropout=0.25, batch_size=40, **options):
    """`denoiser_batches` in which token 10·c + p is phrasing p of caption c, and 99 no prompt."""
    return denoiser_batches(
        mean,
        std,
        caption_of=caption_of,
        caption_ids=[
            torch.tensor([[10 * c + p] for p in range(count)]) for c, count in enumerate(phrasings)
        ],
        empty_ids=torch.tensor([99]),
        prompt_dropout=dropout,
        batch_size=batch_size,
        seed=0,
        **options,
    )


def within_chance(count, trials, chance):
    """Would a fair draw give this count, or one further off, once in a thousand times?"""
    return scipy.stats.binomtest(int(count), trials, chance).pvalue > 1e-3


@pytest.mark.parametrize("dropout", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("phrasings", [(1, 1), (2, 5), (3, 7)])
def test_prompts_are_left_out_and_phrased_each_by_a_draw_of_its_own(phrasings, dropout):
    """Every phrasing of the caption comes with chance (1 - dropout) / P: were the two draws one,
    the phrasings at the lower end would be those left out."""
    mean = torch.randn(40, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    batch = text_batches(
        mean, torch.zeros_like(mean), torch.arange(40) % 2, phrasings, dropout=dropout
    )
    said = torch.cat([batch(step)[3] for step in range(100)]).flatten()
    counts = said.bincount(minlength=100)
    assert within_chance(counts[99], 4000, dropout)
    for caption, count in enumerate(phrasings):
        for place in range(count):
            chance = (1 - dropout) / 2 / count  # every second picture has this caption
            assert within_chance(counts[10 * caption + place], 4000, chance)


def test_each_picture_is_told_what_is_said_of_it_and_left_out_alone():
    """Whole batches without prompts would have guidance learn from fewer steps than one thinks."""
    labels = torch.arange(40) % 2
    mean = (2.0 * labels - 1).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    batch = text_batches(mean, torch.zeros_like(mean), labels)
    left_out = []
    for step in range(100):
        latents, _, _, input_ids = batch(step)
        told = input_ids.flatten()
        left_out.append(int((told == 99).sum()))
        kept = told != 99
        assert torch.equal(told[kept] // 10, (latents[kept, 0, 0, 0] > 0).long())
    # binomial: the variance of the number in a batch of 40 is 40 · p · (1 - p)
    variance = torch.tensor(left_out).double().var().item()
    assert 99 * variance / 7.5 == pytest.approx(99, abs=4 * (2 * 99) ** 0.5)


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1].item()


def kinds(count=64):
    """Every kind of batch of the diffusion, of pictures whose z is N(0, 1): its z is noise itself,
    and comes first."""
    zero = torch.zeros(count, 4, 8, 8)
    one, labels = torch.ones_like(zero), torch.arange(count) % 2
    pictures = torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    return {
        "denoiser": text_batches(zero, one, labels, batch_size=count),
        "labels": label_batches(zero, one, labels, count, seed=0),
        "pixels": pixel_batches(pictures, count, seed=0),
    }


@pytest.mark.parametrize("kind", ["denoiser", "labels", "pixels"])
def test_the_noise_of_diffusion_is_standard_normal_and_says_nothing_of_z_nor_of_another_step(kind):
    """A correlation of n independent pairs is within 4/√n of zero; the noise that made z, used
    again, would be one of 1, and the network would read the noise off the picture."""
    batch = kinds()[kind]
    z, noise, timesteps = batch(0)[:3]
    bound = 4 / noise.numel() ** 0.5
    assert scipy.stats.kstest(noise.flatten().numpy(), "norm").pvalue > 1e-3
    assert abs(correlation(z, noise)) < bound
    others = [batch(step) for step in range(1, 6)]
    for other in others:
        assert abs(correlation(noise, other[1])) < bound
        assert abs(correlation(z, other[1])) < bound and abs(correlation(noise, other[0])) < bound
    # nor do rows have it from each other, nor is it louder at one timestep than at another
    assert abs(correlation(noise[:-1], noise[1:])) < 2 * bound
    assert abs(correlation(noise.square().mean((1, 2, 3)), timesteps)) < 4 / len(noise) ** 0.5
    assert len({tuple(other[2].tolist()) for other in others}) == len(others)


def test_the_noise_of_z_in_the_autoencoders_training_is_drawn_anew_in_every_step():
    images = torch.linspace(-1, 1, 32).reshape(32, 1, 1, 1).expand(-1, 1, 16, 16)
    batch = autoencoder_batches(images, (4, 8, 8), batch_size=32, seed=0)
    noises = [batch(step)[1] for step in range(4)]
    pixels = pixel_batches(noises[0], 32, seed=0)
    bound = 4 / noises[0].numel() ** 0.5
    assert scipy.stats.kstest(noises[0].flatten().numpy(), "norm").pvalue > 1e-3
    for other in (*noises[1:], *(pixels(step)[1] for step in range(4))):
        assert abs(correlation(noises[0], other)) < bound


def test_what_changes_a_picture_at_random_is_seeded_by_the_step():
    def augment(images, generator):
        return torch.rand(images.shape, generator=generator)

    images, labels = torch.zeros(20, 1, 4, 4), torch.arange(20)
    options = {"stream": "a", "batch_size": 8, "seed": 0}
    batch = classifier_batches(images, labels, **options, augment=augment)
    again = classifier_batches(images, labels, **options, augment=augment)
    changed = [batch(step)[0] for step in range(5)]
    assert len({tuple(part.flatten().tolist()) for part in changed}) == 5
    assert all(torch.equal(part, again(step)[0]) for step, part in enumerate(changed))
    plain = classifier_batches(images, labels, **options)
    assert all(torch.equal(batch(step)[1], plain(step)[1]) for step in range(5))


def test_every_example_is_as_likely_at_every_place_of_an_epoch():
    """By the chi-square of a table of places and examples."""
    table = torch.zeros(6, 6)
    for epoch in range(300):
        index = batch_indices(6, 6, 0, "a", epoch)
        table[torch.arange(6), index] += 1
    assert scipy.stats.chisquare(table.flatten().numpy(), ddof=10).pvalue > 1e-3


@pytest.mark.parametrize("most", [1, 7, 10, 50, 999, 1000, 4000])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_all_timesteps_come_equally_often_whatever_divides_what(batch_size, most):
    """In a batch each as often as another, or once more; over many batches, too."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([spread_timesteps(batch_size, generator, most) for _ in range(400)])
    assert drawn.dtype == torch.int64 and drawn.min() >= 0 and drawn.max() < most
    counts = torch.stack([row.bincount(minlength=most) for row in drawn])
    assert (counts.max(1).values - counts.min(1).values).max() <= 1
    # in each tenth as many as it has timesteps; batches are independent, their rows are not
    tenths = torch.arange(most) * 10 // most
    expected, got = tenths.bincount(minlength=10), tenths[drawn.flatten()].bincount(minlength=10)
    assert ((got / drawn.numel() - expected / most).abs() < 4 * (0.25 / 400) ** 0.5).all()


@pytest.mark.parametrize("most", [10, 37, 250])
def test_every_kind_of_batch_knows_how_many_timesteps_there_are(most):
    zero = torch.zeros(30, 1, 2, 2)
    one, labels = torch.ones_like(zero), torch.arange(30) % 2
    for batch in (
        pixel_batches(zero, 30, seed=0, num_train_timesteps=most),
        label_batches(zero, one, labels, 30, seed=0, num_train_timesteps=most),
        text_batches(zero, one, labels, batch_size=30, num_train_timesteps=most),
    ):
        timesteps = torch.cat([batch(step)[2] for step in range(40)])
        assert timesteps.min() == 0 and timesteps.max() == most - 1


def test_the_spread_of_z_is_its_std_in_every_entry():
    """z = mean + std·ε, entry by entry: of 2,000 draws the mean and the deviation are these."""
    generator = torch.Generator().manual_seed(4)
    mean = torch.randn(1, 2, 2, 2, generator=generator)
    std = 0.3 + torch.rand(1, 2, 2, 2, generator=generator)
    mean, std = (part.expand(20, -1, -1, -1) for part in (mean, std))
    labels = torch.zeros(20, dtype=torch.int64)
    for batch in (
        label_batches(mean, std, labels, 20, seed=0),
        text_batches(mean, std, labels, batch_size=20),
    ):
        z = torch.cat([batch(step)[0] for step in range(100)])
        assert ((z.mean(0) - mean[0]).abs() < 4 * std[0] / 2000**0.5).all()
        assert ((z.std(0) / std[0] - 1).abs() < 4 / 4000**0.5).all()


@pytest.mark.parametrize("factor", [0.05, 5.0])
def test_latents_that_nobody_scaled_are_refused(factor):
    mean = factor * torch.randn(40, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="expected scaled latents, of deviation about 1, got"):
        text_batches(mean, torch.zeros_like(mean), torch.arange(40) % 2)
