"""Consistency distillation: the end of a path is one, whoever asks from wherever on it."""

import copy

import diffusers
import pytest
import torch
from tiny import tiny_pipeline
from torch import nn

from minildm.diffusion import GaussianDenoiser, predict_guided
from minildm.models import ToyDenoiser
from minildm.schedulers import DDIMScheduler, LCMScheduler
from minildm.training import Trainer, denoiser_batches, spread_timesteps, step_generator
from minildm.variations import (
    ConsistencyLoss,
    DDIMSolver,
    consistency_batches,
    consistency_function,
    huber,
)

GAUSSIAN = GaussianDenoiser(torch.tensor([1.0, -0.5]), variance=torch.tensor([0.5, 0.1]))
COSINE = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


@pytest.fixture
def scheduler():
    return LCMScheduler(**COSINE, original_inference_steps=20)


class TrueMap(nn.Module):
    """What a network must say for `consistency_function` to be the Gaussian's flow to timestep 0;
    its one parameter is how much it is off."""

    def __init__(self, scheduler):
        super().__init__()
        self.scheduler, self.error = scheduler, nn.Parameter(torch.zeros(()))

    def forward(self, x, timesteps):
        levels = self.scheduler.alphas_cumprod
        end = GAUSSIAN.ode_solution(
            x, levels[timesteps].to(x), levels[torch.zeros_like(timesteps)].to(x)
        )
        alpha, sigma = self.scheduler.alpha_sigma(timesteps, x)
        wanted = (end - self.c_skip(timesteps) * x) / self.c_out(timesteps)
        return (alpha * x - wanted - self.error) / sigma

    def c_skip(self, timesteps):
        return 0.25 / ((10.0 * timesteps[:, None]) ** 2 + 0.25)

    def c_out(self, timesteps):
        scaled = 10.0 * timesteps[:, None].clamp(min=1)
        return scaled / (scaled**2 + 0.25).sqrt()


def flow(scheduler):
    """The Gaussian's ODE, solved exactly."""
    levels = scheduler.alphas_cumprod
    return lambda x, timesteps, earlier: GAUSSIAN.ode_solution(
        x, levels[timesteps].to(x), levels[earlier].to(x)
    )


def points(scheduler, count=64, seed=0):
    """step -> points of the Gaussian, noise, and indices of timesteps."""

    def batch(step):
        generator = step_generator(seed, "points", step)
        own, noise = torch.randn(2, count, 2, generator=generator, dtype=torch.float64)
        index = spread_timesteps(count, generator, scheduler.config.original_inference_steps)
        return GAUSSIAN.mean + GAUSSIAN.variance.sqrt() * own, noise, index

    return consistency_batches(batch, scheduler)


def test_at_timestep_0_it_is_the_sample_itself_whatever_the_network_says(scheduler):
    x, zero = torch.randn(3, 2), torch.zeros(3, dtype=torch.long)
    torch.testing.assert_close(
        consistency_function(lambda x, t: 1000 * torch.randn_like(x), scheduler, x, zero),
        x,
        rtol=0,
        atol=0,
    )


def test_far_from_0_it_is_the_x0_that_the_network_says(scheduler):
    x, t = torch.randn(3, 2), torch.tensor([99, 499, 999])
    said = torch.randn(3, 2)
    expected = scheduler.predict_x0(said, t, x)
    torch.testing.assert_close(
        consistency_function(lambda x, t: said, scheduler, x, t), expected, rtol=1e-5, atol=1e-5
    )


def test_the_loss_of_the_true_map_is_zero_and_of_any_other_is_not(scheduler):
    model = TrueMap(scheduler)
    loss = ConsistencyLoss(model, flow(scheduler), scheduler, decay=0.0).eval()
    batch = points(scheduler)(0)
    assert loss(*batch) < 1e-12
    loss.student.error.data.fill_(0.1)
    assert loss(*batch) > 1e-4


def test_only_paths_that_end_where_they_should_satisfy_it():
    """A network that always says the same is consistent wherever it is believed, but not at the
    end: the boundary."""
    scheduler = LCMScheduler(**COSINE | {"prediction_type": "sample"}, original_inference_steps=20)
    same = type("Same", (nn.Module,), {"forward": lambda self, x, t: torch.zeros_like(x)})()
    same.unused = nn.Parameter(torch.zeros(()))
    loss = ConsistencyLoss(same, flow(scheduler), scheduler)
    x0, noise, timesteps = points(scheduler)(0)
    last = timesteps == 49  # from there the solver goes to 0
    assert last.any() and loss(x0[~last], noise[~last], timesteps[~last]) < 1e-6
    assert loss(x0[last], noise[last], timesteps[last]) > 0.1


def test_training_moves_a_network_towards_the_true_map(scheduler):
    torch.manual_seed(0)
    student, errors = ToyDenoiser(hidden=32).double(), []
    student.time_embedding.register_forward_pre_hook(lambda layer, args: (args[0].double(),))
    loss = ConsistencyLoss(student, flow(scheduler), scheduler, decay=0.9)
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noisiest = torch.full((200,), 999)
    expected = GAUSSIAN.ode_solution(
        x, scheduler.alphas_cumprod[999].double(), scheduler.alphas_cumprod[0].double()
    )
    for steps in (0, 300):
        Trainer("toy", loss, points(scheduler), 1e-2, ema=0.2).train(steps, progress=False)
        with torch.no_grad():
            ends = consistency_function(loss.student, scheduler, x, noisiest)
        errors.append(float((ends - expected).square().mean()))
    assert errors[1] < 0.3 * errors[0]


def test_the_target_is_the_average_that_its_decay_says(scheduler):
    loss = ConsistencyLoss(nn.Linear(2, 2), flow(scheduler), scheduler, decay=0.75)
    first = loss.target.weight.clone()
    loss.student.weight.data += 4
    loss.update_target()
    torch.testing.assert_close(loss.target.weight, first + 1)
    loss.update_target()
    torch.testing.assert_close(loss.target.weight, first + 1.75)
    assert not any(p.requires_grad for p in loss.target.parameters())


def test_only_the_student_learns_and_the_target_follows_in_training_only(scheduler):
    teacher = nn.Bilinear(2, 1, 2)
    model = lambda x, t: teacher(x, t[:, None].to(x))  # noqa: E731
    wrapped = type("Model", (nn.Module,), {"forward": lambda self, x, t: model(x, t)})()
    wrapped.inner = teacher
    loss = ConsistencyLoss(
        copy.deepcopy(wrapped), DDIMSolver(wrapped, scheduler), scheduler
    ).train()
    assert not loss.solver.training and not any(p.requires_grad for p in loss.solver.parameters())
    batch = [part.float() if part.is_floating_point() else part for part in points(scheduler)(0)]
    loss.student.extra = nn.Linear(1, 1)
    loss.target.extra = copy.deepcopy(loss.student.extra).requires_grad_(False)
    loss.student.extra.weight.data += 1
    before = loss.target.extra.weight.clone()
    loss.eval()(*batch)
    assert (loss.target.extra.weight == before).all()
    loss.train()(*batch)
    assert (loss.target.extra.weight != before).all()


def test_its_solver_is_the_step_of_the_ddim_scheduler(scheduler):
    pipeline = tiny_pipeline()
    pipeline.scheduler = DDIMScheduler(
        **COSINE, clip_sample=False, set_alpha_to_one=False, timestep_spacing="trailing"
    )
    pipeline.scheduler.set_timesteps(20)
    pipeline.unet.double()
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    context = pipeline.encode_prompt(["a seven", "three"]).detach().double()
    solver = DDIMSolver(pipeline.unet, scheduler, 1.75, context[0, :1])
    for t in (999, 499, 49):
        predicted = pipeline.predict(x, torch.tensor(t), context, 1.75).detach()
        expected = pipeline.scheduler.step(predicted, t, x)
        earlier = torch.full((2,), max(t - 50, 0))
        torch.testing.assert_close(
            solver(x, torch.full((2,), t), earlier, context[1]), expected, rtol=1e-6, atol=1e-6
        )


def test_guidance_is_the_pipelines_for_every_sample_at_its_own_time():
    pipeline = tiny_pipeline()
    x, context = torch.randn(2, 4, 8, 8), pipeline.encode_prompt(["a seven", "three"]).detach()
    with torch.no_grad():
        got = predict_guided(pipeline.unet, x, torch.tensor([10, 700]), context, scales=[2.5])
        for i, t in enumerate((10, 700)):
            expected = pipeline.predict(x[i : i + 1], torch.tensor(t), context[:, i : i + 1], 2.5)
            torch.testing.assert_close(got[i : i + 1], expected, rtol=1e-5, atol=1e-5)


def test_without_the_empty_prompt_there_is_no_guidance(scheduler):
    with pytest.raises(ValueError, match="empty prompt"):
        DDIMSolver(nn.Identity(), scheduler, 2.0)


def test_huber_is_squared_near_zero_and_absolute_far_away():
    torch.testing.assert_close(
        huber(torch.tensor([1e-3]).double(), 1.0), torch.tensor(0.5e-6).double()
    )
    torch.testing.assert_close(
        huber(torch.tensor([-1e3]), 1.0), torch.tensor(999.0), rtol=1e-3, atol=0
    )


def test_batches_are_of_the_timesteps_that_the_sampler_visits(scheduler):
    timesteps = torch.cat([points(scheduler)(step)[2] for step in range(3)])
    scheduler.set_timesteps(20)
    assert set(timesteps.tolist()) == set(scheduler.timesteps.tolist())


def test_a_batch_of_texts_brings_their_contexts(scheduler):
    pipeline = tiny_pipeline()
    ids = [pipeline.tokenizer(["a seven", "seven"]), pipeline.tokenizer(["three"])]
    mean, labels = torch.randn(6, 4, 8, 8), torch.tensor([0, 1, 0, 1, 0, 1])
    raw = denoiser_batches(
        mean,
        torch.zeros_like(mean),
        caption_of=labels,
        caption_ids=ids,
        empty_ids=pipeline.tokenizer("")[0],
        prompt_dropout=0.0,
        batch_size=4,
        seed=0,
        num_train_timesteps=20,
    )
    got = consistency_batches(raw, scheduler, pipeline.text_encoder)(3)
    torch.testing.assert_close(got[3], pipeline.text_encoder(raw(3)[3]).detach())
    assert not got[3].requires_grad


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_diffusers_draws_the_same_from_a_student(steps, tmp_path):
    student = tiny_pipeline()
    student.scheduler = LCMScheduler(**COSINE, original_inference_steps=20)
    student.save_pretrained(tmp_path)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path)
    theirs.set_progress_bar_config(disable=True)
    assert isinstance(theirs.scheduler, diffusers.LCMScheduler)
    latents = student.starting_noise(2, generator=torch.Generator().manual_seed(0))
    options = {"num_inference_steps": steps, "guidance_scale": 1.0, "latents": latents}
    prompts = ["a seven", "three"]
    expected = theirs(
        prompts, generator=torch.Generator().manual_seed(1), output_type="pt", **options
    ).images
    got = student(prompts, generator=torch.Generator().manual_seed(1), progress=False, **options)
    torch.testing.assert_close(got / 2 + 0.5, expected, rtol=0, atol=1e-4)
