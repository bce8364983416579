"""Distribution matching where the right denoisers are known: of normal distributions."""

import pytest
import torch
from torch import nn

from minildm.schedulers import DDPMScheduler
from minildm.variations import DistributionMatchingLoss, OneStep, matching_batches


class Normal(nn.Module):
    """The exact ε of x₀ ~ N(mean, deviation²) at each timestep; both may be learned."""

    def __init__(self, scheduler, mean, deviation):
        super().__init__()
        self.scheduler = scheduler
        self.mean = nn.Parameter(torch.tensor(mean))
        self.deviation = nn.Parameter(torch.tensor(deviation))

    def forward(self, x, timesteps):
        alpha, sigma = self.scheduler.alpha_sigma(timesteps, x)
        variance = alpha**2 * self.deviation**2 + sigma**2
        return sigma * (x - alpha * self.mean) / variance


class Affine(nn.Module):
    """noise -> a·noise + b."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, noise):
        return self.a * noise + self.b


@pytest.fixture
def scheduler():
    return DDPMScheduler()


def batch(step, count=512):
    generator = torch.Generator().manual_seed(step)
    start, noise = torch.randn(2, count, 4, 1, 1, generator=generator)
    return start, noise, torch.randint(0, 1000, (count,), generator=generator)


def test_a_student_that_draws_as_the_teacher_is_left_alone(scheduler):
    teacher, follower = Normal(scheduler, 0.3, 0.5), Normal(scheduler, 0.3, 0.5)
    student = Affine(0.5, 0.3)
    loss = DistributionMatchingLoss(student, follower, teacher, scheduler)
    loss(*batch(0)).backward()
    assert student.a.grad.abs() < 1e-6 and student.b.grad.abs() < 1e-6


@pytest.mark.parametrize("a, b", [(0.2, 0.9), (1.2, -0.5)])
def test_a_student_comes_to_draw_the_teachers_distribution(scheduler, a, b):
    """Beside a follower that knows at every moment what the student draws."""
    teacher, follower, student = (
        Normal(scheduler, 0.3, 0.5),
        Normal(scheduler, b, a),
        Affine(a, b),
    )
    loss = DistributionMatchingLoss(student, follower, teacher, scheduler)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
    for step in range(400):
        with torch.no_grad():
            follower.mean.copy_(student.b)
            follower.deviation.copy_(student.a)
        optimizer.zero_grad()
        loss(*batch(step)).backward()
        optimizer.step()
    assert abs(float(student.a) - 0.5) < 0.03
    assert abs(float(student.b) - 0.3) < 0.03


def test_the_follower_learns_what_the_student_draws_and_nothing_else(scheduler):
    teacher, follower, student = (
        Normal(scheduler, -2.0, 2.0),
        Normal(scheduler, 0.0, 1.0),
        Affine(0.4, 0.8),
    )
    loss = DistributionMatchingLoss(student, follower, teacher, scheduler)
    optimizer = torch.optim.Adam(follower.parameters(), lr=0.02)
    for step in range(300):
        optimizer.zero_grad()
        loss(*batch(step)).backward()
        optimizer.step()
    assert abs(float(follower.mean.detach()) - 0.8) < 0.05
    assert abs(float(follower.deviation.detach().abs()) - 0.4) < 0.05
    assert teacher.mean.grad is None


def test_the_student_learns_at_each_so_manieth_step_only(scheduler):
    student = Affine(0.4, 0.8)
    loss = DistributionMatchingLoss(
        student, Normal(scheduler, 0.0, 1.0), Normal(scheduler, 0.3, 0.5), scheduler, 3
    )
    learned = []
    for step in range(6):
        loss.zero_grad()
        loss(*batch(step)).backward()
        learned.append(student.a.grad is not None)
    assert learned == [False, False, True] * 2


def test_one_step_goes_the_whole_way():
    def network(z, t, interval):
        assert (t == 1).all() and (interval == 1).all()
        return 0.25 * z

    noise = torch.randn(3, 2)

    class Wrapped(nn.Module):
        def forward(self, *args):
            return network(*args)

    torch.testing.assert_close(OneStep(Wrapped())(noise), 0.75 * noise)


def test_batches_draw_from_noise_that_is_not_the_noise_added():
    x0 = torch.zeros(64, 3)

    def batch(step):
        return x0, torch.randn(64, 3), torch.linspace(0, 999, 64).long()

    start, noise, timesteps = matching_batches(batch, seed=0)(0)
    again, *_ = matching_batches(batch, seed=0)(0)
    torch.testing.assert_close(start, again)
    assert timesteps.min() == 20 and timesteps.max() == 980
    assert abs(float((start * noise).mean())) < 0.3 and abs(float(start.std()) - 1) < 0.2
