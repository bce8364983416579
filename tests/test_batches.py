"""minildm.training.batches: each step has its own, which are the same again."""

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


def test_batches_need_a_label_for_every_latent():
    with pytest.raises(ValueError, match="expected a mean, a std and a label each, got 4, 4 and 3"):
        label_batches(torch.zeros(4, 1, 2, 2), torch.zeros(4, 1, 2, 2), torch.zeros(3), 2, 0)


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
