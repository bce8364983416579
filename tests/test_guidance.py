"""minildm.diffusion.guidance: the papers' formulas, and one question for all conditions."""

import pytest
import torch

from minildm.diffusion import guide, predict_guided
from minildm.diffusion.guidance import unconditional


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_two_predictions_are_combined_by_the_papers_formula():
    unconditional, conditional = normal(2, 3, 4)
    expected = unconditional + 2.5 * (conditional - unconditional)
    assert torch.equal(guide([unconditional, conditional], [2.5]), expected)
    assert torch.equal(guide([unconditional, conditional], [0.0]), unconditional)
    torch.testing.assert_close(guide([unconditional, conditional], [1.0]), conditional)


def test_three_predictions_have_a_scale_for_each_step_of_knowledge():
    neither, mapped, both = normal(3, 3, 4)
    expected = neither + 1.5 * (mapped - neither) + 4.0 * (both - mapped)
    assert torch.equal(guide([neither, mapped, both], [1.5, 4.0]), expected)


def test_one_prediction_is_left_as_it_is_and_scales_are_counted():
    alone = normal(3, 4)
    assert guide([alone], []) is alone
    with pytest.raises(ValueError):
        guide([alone, alone], [1.0, 2.0])
    with pytest.raises(ValueError):
        guide([alone, alone], [])


@pytest.mark.parametrize("timesteps", [torch.tensor(7.0), torch.tensor([7.0, 2.0])])
def test_the_model_is_asked_once_and_each_row_meets_its_own_conditions(timesteps):
    asked = []

    def model(x, t, *conditions):
        asked.append(len(x))
        t = t.reshape(-1, 1) if t.ndim else t
        return x * t + sum((i + 2) * condition for i, condition in enumerate(conditions))

    x, texts, maps = normal(2, 3), normal(3, 2, 3, seed=1), normal(3, 2, 3, seed=2)
    got = predict_guided(model, x, timesteps, texts, maps, scales=[1.5, 3.0])
    assert asked == [6]
    alone = [model(x, timesteps, *told) for told in zip(texts, maps, strict=True)]
    torch.testing.assert_close(got, guide(alone, [1.5, 3.0]))
    torch.testing.assert_close(
        predict_guided(model, x, timesteps, texts[:1], scales=[]), model(x, timesteps, texts[0])
    )


def test_conditions_that_only_fill_the_batch_by_their_number_are_refused():
    """Four rows are two samples with two conditions each; not one with four, nor four with one."""
    x, texts = normal(2, 3), normal(2, 2, 3, seed=1)
    expected = r"expected conditions \(2, 2, …\) of 2 samples and 1 scales, got"
    for wrong in (texts.flatten(0, 1)[None], texts.flatten(0, 1)[:, None], texts[:, :1]):
        with pytest.raises(ValueError, match=expected):
            predict_guided(lambda x, t, c: x + c, x, torch.tensor(3), wrong, scales=[2.0])


def test_what_says_nothing_has_the_shape_of_what_says_something():
    contexts = normal(4, 5, 3)
    for nothing in (contexts[0], contexts[:1], contexts):
        assert torch.equal(unconditional(nothing, contexts), torch.broadcast_to(nothing, (4, 5, 3)))
    for wrong in (contexts[0, :1], contexts[0, :, :1], contexts[:, :1], contexts[:2]):
        with pytest.raises(ValueError, match=r"expected an empty condition of shape \(5, 3\)"):
            unconditional(wrong, contexts)


def test_predictions_of_other_samples_are_not_spread_over_these():
    with pytest.raises(ValueError, match=r"expected predictions of one shape, got \[\(1, 3\)"):
        guide([normal(1, 3), normal(4, 3)], [2.0])
