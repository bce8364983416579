"""The scores against closed forms, scipy and double loops; the classifier that they rest on."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import torch

from minildm.evaluation import (
    balanced_subset,
    frechet_distance,
    kernel_distance,
    mode_coverage,
    nearest_distances,
    nearest_images,
    precision_recall,
    score,
)
from minildm.models import ImageClassifier, extract, jitter, shift_and_mirror
from minildm.training import ClassifierLoss, Trainer, classifier_batches


def features(count, dim=6, seed=0, shift=0.0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=generator)
    return scale * torch.randn(count, dim, generator=generator) @ mixing + shift


@pytest.fixture
def examiner():
    torch.manual_seed(0)
    return ImageClassifier(sample_size=8, block_out_channels=(4, 8), feature_dim=5).eval()


@pytest.mark.parametrize(("count_a", "count_b", "dim"), [(50, 70, 6), (200, 200, 3), (5, 9, 12)])
def test_frechet_distance_is_that_of_scipys_matrix_square_root(count_a, count_b, dim):
    a, b = features(count_a, dim, 0), features(count_b, dim, 1, shift=0.5, scale=1.5)
    mean_a, mean_b = a.double().mean(0).numpy(), b.double().mean(0).numpy()
    cov_a, cov_b = (
        np.cov(a.double().numpy(), rowvar=False),
        np.cov(b.double().numpy(), rowvar=False),
    )
    if min(count_a, count_b) > dim:
        root = scipy.linalg.sqrtm(cov_a @ cov_b)
    else:  # the product is singular, of which sqrtm makes nonsense: tr sqrt(A B) = tr sqrt(√A B √A)
        half = np.real(scipy.linalg.sqrtm(cov_a + 1e-14 * np.eye(dim)))
        root = scipy.linalg.sqrtm(half @ cov_b @ half + 1e-14 * np.eye(dim))
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(root))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_two_gaussians_on_a_line_is_mean_and_deviation_difference_squared():
    a = torch.tensor([[-1.0], [1.0]]) * math.sqrt(0.5)  # mean 0, variance 1
    b = 3 * a + 2
    assert frechet_distance(a, b) == pytest.approx(2**2 + (3 - 1) ** 2, rel=1e-6)


def test_frechet_distance_is_symmetric_and_zero_only_for_itself():
    a, b = features(40), features(40, seed=1)
    assert abs(frechet_distance(a, a)) < 1e-9
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert frechet_distance(a, b) > 0.1


@pytest.mark.parametrize(("count_a", "count_b"), [(7, 11), (2, 2)])
def test_kernel_distance_is_that_of_a_double_loop(count_a, count_b):
    a, b = features(count_a).double(), features(count_b, seed=1, shift=0.3).double()

    def k(x, y):
        return (float(x @ y) / len(x) + 1) ** 3

    within = [
        sum(k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j)
        / (len(x) * (len(x) - 1))
        for x in (a, b)
    ]
    between = sum(k(x, y) for x in a for y in b) / (len(a) * len(b))
    assert kernel_distance(a, b) == pytest.approx(sum(within) - 2 * between, rel=1e-9)


def test_kernel_distance_in_pieces_is_that_of_the_whole_table():
    a, b = features(1500, 3).double(), features(2100, 3, seed=1).double()
    kernels = [(x @ y.T / 3 + 1) ** 3 for x, y in ((a, a), (b, b), (a, b))]
    within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in kernels[:2]]
    assert kernel_distance(a, b) == pytest.approx(
        float(sum(within) - 2 * kernels[2].mean()), rel=1e-9
    )


def test_kernel_distance_is_unbiased():
    """Over many draws from one distribution its mean is 0; counting pictures with themselves would
    put it far above."""
    draws = torch.randn(200, 2, 12, 3, generator=torch.Generator().manual_seed(0))
    unbiased = torch.tensor([kernel_distance(a, b) for a, b in draws])
    error = unbiased.std() / 200**0.5
    assert abs(unbiased.mean()) < 3 * error
    biased = [
        sum(s * ((x @ y.T / 3 + 1) ** 3).mean() for x, y, s in ((a, a, 1), (b, b, 1), (a, b, -2)))
        for a, b in draws
    ]
    assert torch.stack(biased).mean() > 10 * error


def test_precision_and_recall_see_fidelity_and_coverage_apart():
    """Real: two clusters far apart. Drawn: copies of one of them, and a part far from both."""
    generator = torch.Generator().manual_seed(0)
    clusters = torch.randn(2, 50, 4, generator=generator) + torch.tensor([0.0, 100.0]).view(2, 1, 1)
    real = clusters.flatten(0, 1)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, clusters[0]) == (
        1.0,
        0.5,
    )  # good, but half of the real ones are missing
    half_wrong = torch.cat([real, torch.randn(100, 4, generator=generator) - 500])
    assert precision_recall(real, half_wrong) == (0.5, 1.0)  # all there, but half are no good
    assert precision_recall(real, clusters[0] - 500) == (0.0, 0.0)


def test_precision_uses_the_radius_of_the_kth_neighbour():
    real = torch.tensor(
        [[0.0], [1.0], [2.0], [3.0], [10.0]]
    )  # third neighbours at 3, 2, 2, 3 and 9
    inside, outside = torch.tensor([[5.9]]), torch.tensor([[-3.1]])
    at = torch.tensor([[19.0], [19.1], [-3.0], [-3.1]])
    assert precision_recall(real, at)[0] == 0.5
    assert precision_recall(real, inside.expand(4, 1))[0] == 1.0
    assert precision_recall(real, outside.expand(4, 1))[0] == 0.0


def test_precision_recall_does_not_lose_close_neighbours_to_rounding():
    """Far from the origin, |x|² + |y|² − 2xy in float32 knows nothing of small distances."""
    near = 0.01 * torch.randn(
        60, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    moved = near[:30] + 1e-3, near[30:]
    expected = precision_recall(*moved)
    assert precision_recall(moved[0] + 1000, moved[1] + 1000) == pytest.approx(expected)
    assert 0 < expected[0] < 1


def scipys_precision_recall(real, generated, k=3):
    """From all distances, each a sum of squared differences."""

    def inside(points, others):
        radius = np.sort(scipy.spatial.distance.cdist(others, others, "sqeuclidean"))[:, k]
        hits = scipy.spatial.distance.cdist(points, others, "sqeuclidean") <= radius
        return hits.any(1).mean()

    return inside(generated, real), inside(real, generated)


def test_precision_and_recall_are_scipys_with_copies_and_points_on_the_rim():
    """On a lattice many points are copies, and many lie exactly as far away as a ball reaches."""
    generator = torch.Generator().manual_seed(0)
    for trial in range(30):
        real = torch.randint(-9, 10, (60 + trial, 2), generator=generator).double()
        drawn = torch.randint(-12, 13, (50, 2), generator=generator).double()
        real[:8] = real[0]  # more copies than neighbours: a ball of radius 0
        drawn[:3] = real[:3]
        expected = scipys_precision_recall(real.numpy(), drawn.numpy())
        assert 0.3 < min(expected) < 1
        # moved and stretched the lattice is the same one, though its products round
        for moved in (lambda x: x, lambda x: 0.1 * x + 1 / 3, lambda x: x / 8 + 1000):
            assert precision_recall(moved(real), moved(drawn)) == expected


def test_nearest_distances_are_those_of_a_double_loop():
    images = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    training = torch.rand(9, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    expected = [min(((x - y) ** 2).mean().sqrt() for y in training) for x in images]
    torch.testing.assert_close(nearest_distances(images, training), torch.stack(expected))


def test_nearest_distances_find_a_copy():
    training = torch.rand(2000, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    distances = nearest_distances(torch.cat([training[[7, 1999]], -training[[3]]]), training)
    assert distances[:2].max() == 0 and distances[2] > 0.1


def photographs(count, seed=0):
    """Bytes as floats, in [-1, 1]: many alike, and all far from the origin."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randint(0, 256, (1, 3, 16, 16), generator=generator)
    own = torch.randint(-3, 4, (count, 3, 16, 16), generator=generator)
    return (common + own).clamp(0, 255) / 127.5 - 1


@pytest.mark.parametrize("candidates", [1, 20, 30, 700])
def test_nearest_images_are_those_of_scipy_whatever_the_number_of_candidates(candidates):
    training = photographs(candidates)
    noise = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for images in (photographs(130, 1), photographs(40) + 1e-3 * noise, -training[:30]):
        table = scipy.spatial.distance.cdist(
            images.flatten(1).numpy(), training.flatten(1).numpy(), "sqeuclidean"
        )
        distances, indices = nearest_images(images, training)
        assert indices.tolist() == table.argmin(1).tolist()
        expected = torch.tensor(table.min(1) / images[0].numel()).sqrt()
        torch.testing.assert_close(distances.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.uint8])
def test_a_copy_is_at_distance_0_of_itself_and_of_several_it_is_the_first(dtype):
    training = photographs(60)
    if dtype == torch.uint8:
        training = (127.5 * (training + 1)).round()
    training = torch.cat([training, training]).to(dtype)
    distances, indices = nearest_images(training, training)
    assert (distances == 0).all()
    assert indices.tolist() == [*range(60), *range(60)]
    assert distances.dtype == (dtype if dtype == torch.float64 else torch.float32)


def test_images_that_are_not_finite_have_no_nearest():
    training = photographs(30)
    for where in (0, 1):
        pair = [training.clone(), training.clone()]
        pair[where][3, 0, 2, 2] = torch.nan
        with pytest.raises(ValueError, match="expected finite images"):
            nearest_images(*pair)


def test_nearest_images_name_the_picture_that_a_double_loop_finds_in_every_piece():
    images = torch.rand(501, 1, 4, 4, generator=torch.Generator().manual_seed(0))  # two pieces
    training = torch.rand(9, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    distances, indices = nearest_images(images, training)
    for i in (0, 250, 500):
        expected = torch.stack([((images[i] - y) ** 2).mean().sqrt() for y in training])
        assert indices[i] == expected.argmin()
        torch.testing.assert_close(distances[i], expected.min())


@pytest.mark.parametrize("training", [torch.zeros(9, 1, 8, 8), torch.zeros(0, 1, 4, 4)])
def test_nearest_images_are_of_one_shape_and_at_least_one(training):
    with pytest.raises(
        ValueError, match=r"expected images of the training images' shape .* got \(1, 4, 4\)"
    ):
        nearest_images(torch.zeros(2, 1, 4, 4), training)


def test_score_counts_the_pictures_that_the_examiner_takes_for_what_was_asked(examiner):
    images = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    reference, predicted = extract(examiner, images, batch_size=7)
    torch.testing.assert_close(reference, examiner.features(images).detach())
    torch.testing.assert_close(predicted, examiner(images).argmax(1))
    wrong = predicted.clone()
    wrong[:10] = (wrong[:10] + 1) % 10
    scores = score(examiner, images, wrong, reference)
    assert scores.accuracy == pytest.approx(0.75)
    assert (scores.precision, scores.recall) == (1.0, 1.0) and abs(scores.frechet) < 1e-6


def test_extract_refuses_an_examiner_in_training_mode(examiner):
    with pytest.raises(ValueError, match="evaluation mode"):
        extract(examiner.train(), torch.zeros(2, 1, 8, 8))


@pytest.mark.parametrize("metric", [frechet_distance, kernel_distance, precision_recall])
def test_features_that_are_not_finite_are_refused(metric):
    broken = torch.randn(9, 4)
    broken[3, 1] = float("nan")
    with pytest.raises(ValueError, match="expected finite features"):
        metric(torch.randn(9, 4), broken)


@pytest.mark.parametrize(
    ("metric", "a", "b"),
    [
        (frechet_distance, (1, 4), (5, 4)),
        (frechet_distance, (5, 4), (5, 3)),
        (kernel_distance, (1, 4), (5, 4)),
        (precision_recall, (3, 4), (9, 4)),
        (kernel_distance, (5, 2, 2), (5, 4)),
    ],
)
def test_too_few_or_differently_shaped_features_are_refused(metric, a, b):
    with pytest.raises(ValueError, match=r"expected features \(N, D\).*got"):
        metric(torch.zeros(a), torch.zeros(b))


def test_score_wants_a_label_for_every_picture(examiner):
    for shape in ((2,), (1,), (3, 1)):  # the last two would be spread over all of them
        got = f"got {tuple(shape)}".replace("(", r"\(").replace(")", r"\)")
        with pytest.raises(ValueError, match=f"expected a label for each of 3 images, {got}"):
            score(examiner, torch.zeros(3, 1, 8, 8), torch.zeros(shape), torch.zeros(9, 5))


def test_balanced_subset_has_as_many_of_each_class_in_turn():
    labels = torch.tensor([1, 1, 0, 2, 2, 0, 1, 2, 0])
    assert balanced_subset(labels, 6, 3).tolist() == [2, 0, 3, 5, 1, 4]
    for size in (7, 0, -3):
        with pytest.raises(ValueError, match=f"multiple of the 3 classes, got {size}"):
            balanced_subset(labels, size, 3)
    with pytest.raises(ValueError, match="expected 4 images of every class, got 3"):
        balanced_subset(labels, 12, 3)


def test_features_refuse_images_of_another_size(examiner):
    with pytest.raises(ValueError, match=r"expected images \(B, 1, 8, 8\), got \(2, 1, 9, 9\)"):
        examiner.features(torch.zeros(2, 1, 9, 9))


def test_classifier_survives_saving_with_its_running_statistics(examiner, tmp_path):
    images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    examiner.train()(images)  # moves the running means
    examiner.eval().save_pretrained(tmp_path)
    torch.testing.assert_close(ImageClassifier.from_pretrained(tmp_path)(images), examiner(images))


def test_classifier_in_half_precision_reads_the_same_classes(examiner, tmp_path):
    examiner.save_pretrained(tmp_path, dtype=torch.float16)
    loaded = ImageClassifier.from_pretrained(tmp_path)
    assert loaded.dtype == torch.float32
    images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded(images), examiner(images), atol=1e-2, rtol=0)


def test_a_classifier_learns_and_is_reproducible():
    """Which half of the picture is bright?"""
    labels = torch.arange(64) % 2
    images = 0.5 * torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[:, :, :4] += labels.view(-1, 1, 1, 1).float() * 2 - 1
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        model = ImageClassifier(8, num_classes=2, block_out_channels=(4,), feature_dim=4)
        batches = classifier_batches(images, labels, stream="halves", batch_size=16, seed=1)
        results.append(
            Trainer("halves", ClassifierLoss(model), batches, learning_rate=3e-3).train(
                30, progress=False
            )
        )
        assert not model.training and len(results[-1]) == 30
        assert extract(model, images)[1].eq(labels).float().mean() > 0.9
    assert results[0] == results[1]


def test_jitter_moves_a_picture_a_little_and_leaves_black_around_it():
    images = torch.full((6, 1, 28, 28), -1.0)
    images[:, :, 12:16, 12:16] = 1.0
    moved = jitter(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape and moved.min() >= -1 and moved.max() <= 1
    assert moved[:, :, :4].eq(-1).all() and not torch.equal(moved, images)
    weight = (moved + 1).sum((1, 2, 3))
    rows = ((moved + 1).sum((1, 3)) * torch.arange(28)).sum(1) / weight
    assert (rows - 13.5).abs().max() < 28 * 0.06 + 1
    torch.testing.assert_close(moved, jitter(images, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(
        jitter(images, torch.Generator(), rotation=0, scale=0, shift=0), images
    )


def test_shift_and_mirror_cuts_a_window_out_of_the_reflected_picture_or_out_of_its_mirror_image():
    images = torch.randn(64, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    moved = shift_and_mirror(images, torch.Generator().manual_seed(1), most=2)
    padded = torch.nn.functional.pad(images, [2] * 4, mode="reflect")
    seen = set()
    for image, result in zip(padded, moved, strict=True):
        windows = {
            (top, left, mirrored): window.flip(-1) if mirrored else window
            for top in range(5)
            for left in range(5)
            for mirrored in (False, True)
            for window in [image[:, top : top + 8, left : left + 6]]
        }
        found = [where for where, window in windows.items() if torch.equal(window, result)]
        assert len(found) == 1
        seen |= set(found)
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(5))
    assert 16 < sum(mirrored for *_, mirrored in seen) * 64 / len(seen) < 48
    assert torch.equal(moved, shift_and_mirror(images, torch.Generator().manual_seed(1), most=2))


def test_letters_are_moved_as_photographs_are_and_never_mirrored():
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    kept = shift_and_mirror(images, torch.Generator().manual_seed(1), most=2, mirrored=0)
    turned = shift_and_mirror(images, torch.Generator().manual_seed(1), most=2, mirrored=1)
    half = shift_and_mirror(images, torch.Generator().manual_seed(1), most=2)
    padded = torch.nn.functional.pad(images, [2] * 4, mode="reflect")
    windows = padded.unfold(2, 8, 1).unfold(3, 8, 1).flatten(1, 3)  # (40, 25, 8, 8)
    assert (windows == kept).flatten(2).all(2).any(1).all()
    assert torch.equal(turned.flip(3), kept)
    same = [torch.equal(a, b) for a, b in zip(half, kept, strict=True)]
    assert 5 < sum(same) < 35


def blobs(counts, seed=0):
    """Features of so many pictures of each kind, far apart."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return 20 * torch.eye(len(counts))[kinds] + torch.randn(
        len(kinds), len(counts), generator=generator
    )


def test_no_more_bins_differ_between_two_real_crowds_than_chance_allows():
    found = [
        mode_coverage(blobs([300] * 8, s), blobs([100] * 8, s + 50), bins=40, seed=s)
        for s in range(6)
    ]
    assert sum(m.different for m in found) / 6 < 0.12 and max(m.missing for m in found) <= 0.05


def test_a_kind_that_is_never_drawn_is_missing():
    real = blobs([200] * 8)
    some = mode_coverage(real, blobs([150] * 6 + [0, 0], seed=1), bins=8, seed=3)
    every = mode_coverage(real, blobs([150] * 8, seed=1), bins=8, seed=3)
    assert some.missing >= 1 / 8 and some.different > every.different and every.missing == 0


def test_a_kind_drawn_half_as_often_differs_and_is_not_missing():
    found = mode_coverage(blobs([400] * 2), blobs([300, 150], seed=1), bins=2, seed=1)
    assert found == (1.0, 0.0)


def test_bins_want_as_many_pictures():
    with pytest.raises(ValueError, match="at least 50 pictures"):
        mode_coverage(torch.randn(60, 3), torch.randn(20, 3))
