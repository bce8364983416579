"""The denoisers that need no training, against brute force: integrals on a grid, autograd, and a
solver of ODEs."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from minildm.diffusion import GaussianDenoiser, IdealDenoiser, ideal
from minildm.schedulers import DDIMScheduler, DDPMScheduler

LEVELS = [0.0, 0.01, 0.5, 0.99]
COVARIANCE = torch.tensor([[1.3, 0.8], [0.8, 0.7]], dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def denoisers():
    """Data in the plane: an upright Gaussian, a slanting one, points, points that are blurred."""
    mean = torch.tensor([0.4, -1.0], dtype=torch.float64)
    return {
        "variance": GaussianDenoiser(mean, variance=torch.tensor([0.3, 2.0], dtype=torch.float64)),
        "covariance": GaussianDenoiser(mean, covariance=COVARIANCE),
        "points": IdealDenoiser(normal(20, 2)),
        "mixture": IdealDenoiser(normal(20, 2), variance=0.3),
    }


every_denoiser = pytest.mark.parametrize("denoiser", denoisers().values(), ids=denoisers())


@pytest.mark.parametrize("alpha_prod_t", LEVELS)
def test_gaussian_posterior_is_bayes_on_a_grid(alpha_prod_t):
    mean, variance, xt = 0.7, 0.4, -0.9
    x0 = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    prior = -((x0 - mean) ** 2) / (2 * variance)
    likelihood = -((xt - alpha_prod_t**0.5 * x0) ** 2) / (2 * (1 - alpha_prod_t))
    weights = (prior + likelihood).softmax(0)
    expected_mean = (weights * x0).sum()
    expected_variance = (weights * (x0 - expected_mean) ** 2).sum()
    got = GaussianDenoiser(mean, variance).posterior(
        torch.tensor([xt], dtype=torch.float64), alpha_prod_t
    )
    torch.testing.assert_close(got[0][0], expected_mean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(got[1], expected_variance, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("alpha_prod_t", LEVELS)
def test_gaussian_marginal_is_that_of_noised_samples(alpha_prod_t):
    denoiser = denoisers()["variance"]
    clean = denoiser.mean + denoiser.variance.sqrt() * normal(400_000, 2, seed=1)
    noisy = alpha_prod_t**0.5 * clean + (1 - alpha_prod_t) ** 0.5 * normal(400_000, 2, seed=2)
    mean, variance = denoiser.marginal(alpha_prod_t)
    assert ((noisy.mean(0) - mean).abs() < 4 * (variance / 400_000).sqrt()).all()
    assert ((noisy.var(0) - variance).abs() < 4 * variance * (2 / 400_000) ** 0.5).all()


def test_gaussian_log_density_is_pytorchs():
    mean, xt = torch.tensor([0.4, -1.0], dtype=torch.float64), normal(5, 2)
    noisy = torch.distributions.MultivariateNormal(
        0.3**0.5 * mean, 0.3 * COVARIANCE + 0.7 * torch.eye(2)
    )
    got = GaussianDenoiser(mean, covariance=COVARIANCE).log_density(xt, 0.3)
    torch.testing.assert_close(got, noisy.log_prob(xt), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("alpha_prod_t", LEVELS)
def test_a_diagonal_covariance_is_a_variance(alpha_prod_t):
    variance, xt = torch.tensor([2.0, 0.3], dtype=torch.float64), normal(6, 2)
    one, other = (
        GaussianDenoiser(normal(2), variance),
        GaussianDenoiser(normal(2), covariance=variance.diag()),
    )
    torch.testing.assert_close(one.predict_x0(xt, alpha_prod_t), other.predict_x0(xt, alpha_prod_t))
    torch.testing.assert_close(
        one.ode_solution(xt, alpha_prod_t, 1.0), other.ode_solution(xt, alpha_prod_t, 1.0)
    )


def test_mixture_density_is_pytorchs():
    centres, xt = normal(20, 2), normal(7, 2, seed=3)
    spread = torch.full((20, 2), (0.6 * 0.3 + 0.4) ** 0.5, dtype=torch.float64)
    noisy = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(20, dtype=torch.float64)),
        torch.distributions.Independent(torch.distributions.Normal(0.6**0.5 * centres, spread), 1),
    )
    torch.testing.assert_close(IdealDenoiser(centres, 0.3).log_density(xt, 0.6), noisy.log_prob(xt))


@every_denoiser
@pytest.mark.parametrize("alpha_prod_t", LEVELS)
def test_score_is_the_gradient_of_the_log_density(denoiser, alpha_prod_t):
    xt = normal(8, 2, seed=4).requires_grad_()
    (gradient,) = torch.autograd.grad(denoiser.log_density(xt, alpha_prod_t).sum(), xt)
    torch.testing.assert_close(denoiser.score(xt.detach(), alpha_prod_t), gradient)


@every_denoiser
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_under_each_name_the_scheduler_finds_the_same_x0_and_noise(denoiser, prediction_type):
    scheduler = DDPMScheduler(prediction_type=prediction_type, clip_sample=False)
    xt, t = normal(6, 2), torch.tensor([5, 100, 300, 600, 900, 999])
    said, alpha_prod_t = denoiser.as_model(scheduler)(xt, t), scheduler.alphas_cumprod[t]
    torch.testing.assert_close(
        scheduler.predict_x0(said, t, xt), denoiser.predict_x0(xt, alpha_prod_t)
    )
    torch.testing.assert_close(
        scheduler.predict_epsilon(said, t, xt), denoiser.predict_epsilon(xt, alpha_prod_t)
    )


@pytest.mark.parametrize("kind", ["variance", "covariance"])
def test_ode_solution_is_what_a_solver_finds(kind):
    denoiser, start = denoisers()[kind], normal(1, 2, seed=5)

    def slope(
        log_snr, x
    ):  # dx/dλ of the probability-flow ODE, with α² = sigmoid(λ) and its derivative α²·σ²
        alpha_prod_t = 1 / (1 + math.exp(-log_snr))
        x = torch.from_numpy(x).reshape(1, 2)
        drift = 0.5 * (1 - alpha_prod_t) * (x + denoiser.score(x, alpha_prod_t))
        return drift.flatten().numpy()

    ends = [math.log(a / (1 - a)) for a in (0.001, 0.98)]
    solved = solve_ivp(slope, ends, start.flatten().numpy(), rtol=1e-9, atol=1e-10).y[:, -1]
    np.testing.assert_allclose(
        denoiser.ode_solution(start, 0.001, 0.98).flatten(), solved, rtol=1e-6
    )


def test_ode_solution_takes_the_noisy_gaussian_to_the_clean_one():
    denoiser = denoisers()["variance"]
    noise = normal(200_000, 2)
    data = denoiser.ode_solution(noise, 0.0, 1.0)
    torch.testing.assert_close(data, denoiser.mean + denoiser.variance.sqrt() * noise)


@pytest.mark.parametrize("alpha_prod_t", LEVELS)
def test_ideal_denoiser_is_bayes_summed_point_by_point(alpha_prod_t):
    points, xt = normal(12, 1, 2, 2), normal(3, 1, 2, 2, seed=6)
    for sample, got in zip(xt, IdealDenoiser(points).predict_x0(xt, alpha_prod_t), strict=True):
        squares = [float(((sample - alpha_prod_t**0.5 * point) ** 2).sum()) for point in points]
        likelihoods = [math.exp(-square / (2 * (1 - alpha_prod_t))) for square in squares]
        expected = sum(p * point for p, point in zip(likelihoods, points, strict=True)) / sum(
            likelihoods
        )
        torch.testing.assert_close(got, expected)


def test_ideal_denoiser_of_pure_noise_says_the_mean_and_of_almost_none_the_nearest_point():
    points = normal(50, 1, 8, 8).float()
    noise = normal(4, 1, 8, 8, seed=7).float()
    torch.testing.assert_close(
        IdealDenoiser(points).predict_x0(noise, 0.0),
        points.mean(0, keepdim=True).expand(4, -1, -1, -1),
    )
    alpha_prod_t = 1 - 1e-6
    xt = alpha_prod_t**0.5 * points[:4] + (1 - alpha_prod_t) ** 0.5 * noise
    torch.testing.assert_close(IdealDenoiser(points).predict_x0(xt, alpha_prod_t), points[:4])


def test_weights_are_as_likely_as_the_points_and_sum_to_1():
    points, xt, alpha_prod_t = normal(5, 2), normal(3, 2, seed=6), torch.tensor([0.1, 0.5, 0.9])
    got = IdealDenoiser(points, variance=0.3).weights(xt, alpha_prod_t)
    for row, x, a in zip(got, xt, alpha_prod_t.double(), strict=True):
        deviation = (1 - a + a * 0.3).sqrt()
        near = torch.distributions.Normal(a.sqrt() * points, deviation)
        likely = near.log_prob(x).sum(1).exp()
        torch.testing.assert_close(row, likely / likely.sum())


def test_what_has_no_noise_at_all_is_refused_by_a_denoiser_and_taken_by_the_ode():
    bell, xt = GaussianDenoiser(0.0, 1.0), torch.ones(2, 1)
    torch.testing.assert_close(bell.ode_solution(xt, 1, 1), xt)
    for level in (1.0, -0.01, torch.tensor([0.5, 1.0])):
        with pytest.raises(ValueError, match=r"alphas_cumprod in \[0, 1\), got"):
            bell.predict_x0(xt, level)


def test_no_denoiser_beats_the_ideal_one():
    """On noisy points of the set its mean squared error is below that of points, means and blends
    of both."""
    points = normal(30, 2)
    clean = points.repeat(2000, 1)
    xt = 0.5**0.5 * clean + 0.5**0.5 * normal(60_000, 2, seed=8)
    ideal_error = (IdealDenoiser(points).predict_x0(xt, 0.5) - clean).square().mean()
    best_line = clean.mean(0) + (xt - xt.mean(0)) * ((xt * clean).mean() / xt.square().mean())
    nearest = points[torch.cdist(xt, 0.5**0.5 * points).argmin(1)]
    assert ideal_error < min((best_line - clean).square().mean(), (nearest - clean).square().mean())


def test_many_samples_in_pieces_are_the_samples_at_once(monkeypatch):
    denoiser, xt, alpha_prod_t = denoisers()["mixture"], normal(17, 2), torch.linspace(0, 0.99, 17)
    whole = [
        f(xt, alpha_prod_t) for f in (denoiser.predict_x0, denoiser.log_density, denoiser.weights)
    ]
    for held, rows in ((45, 2), (20, 1), (3, 1)):  # of its 20 points
        monkeypatch.setattr(ideal, "CHUNK", held)
        for f, expected in zip(
            (denoiser.predict_x0, denoiser.log_density, denoiser.weights), whole, strict=True
        ):
            torch.testing.assert_close(f(xt, alpha_prod_t), expected)
        assert max(len(logits) for logits, _ in denoiser._chunks(xt, alpha_prod_t)) == rows


def test_ddim_with_an_ideal_denoiser_ends_on_the_points_of_its_set():
    points = normal(10, 2).float()
    scheduler = DDIMScheduler(prediction_type="v_prediction", clip_sample=False)
    scheduler.set_timesteps(100)
    x, model = normal(200, 2, seed=9).float(), IdealDenoiser(points).as_model(scheduler)
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, t), t, x)
    assert (torch.cdist(x, points).min(1).values < 0.02).float().mean() > 0.95


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: GaussianDenoiser(torch.zeros(2), 1.0, torch.eye(2)), "got both or neither"),
        (lambda: GaussianDenoiser(torch.zeros(1, 2), covariance=torch.eye(1)), "a mean"),
        (lambda: IdealDenoiser(torch.zeros(3)), r"at least one, got \(3,\)"),
        (lambda: IdealDenoiser(torch.zeros(3, 2), float("nan")), "0 or more, got nan"),
        (lambda: GaussianDenoiser(0.0), "expected either a variance or a covariance"),
        (lambda: GaussianDenoiser(0.0, -1.0), "expected variances of 0 or more, got -1"),
        (
            lambda: GaussianDenoiser(torch.zeros(3), covariance=torch.eye(2)),
            r"expected a mean \(D,\)",
        ),
        (
            lambda: GaussianDenoiser(torch.zeros(2), covariance=torch.tensor([[1, 1], [0, 1.0]])),
            "symmetric",
        ),
        (
            lambda: IdealDenoiser(torch.zeros(0, 2)),
            r"expected points \(N, …\), at least one, got \(0, 2\)",
        ),
        (
            lambda: IdealDenoiser(torch.zeros(3, 2), -1.0),
            "expected a variance of 0 or more, got -1",
        ),
        (
            lambda: IdealDenoiser(torch.zeros(3, 2)).predict_x0(torch.zeros(2, 4), 0.5),
            r"expected samples \(B, 2\)",
        ),
        (
            lambda: IdealDenoiser(torch.zeros(3, 2)).score(torch.zeros(2, 2), 1.0),
            r"alphas_cumprod in \[0, 1\), got 1",
        ),
        (
            lambda: GaussianDenoiser(0.0, 1.0).ode_solution(torch.zeros(2, 1), 1.1, 0.5),
            r"in \[0, 1\], got 1.1",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
