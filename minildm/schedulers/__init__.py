"""The schedulers: a file for each algorithm, `base.py` for what they share. Chapter 05."""

from minildm.schedulers.base import SPACINGS, Scheduler
from minildm.schedulers.ddim import DDIMScheduler, ddim_step
from minildm.schedulers.ddpm import DDPMScheduler, ddpm_posterior
from minildm.schedulers.dpm_solver import DPMSolverMultistepScheduler
from minildm.schedulers.euler import EulerDiscreteScheduler
from minildm.schedulers.euler_ancestral import EulerAncestralDiscreteScheduler
from minildm.schedulers.flow_match_euler import FlowMatchEulerDiscreteScheduler
from minildm.schedulers.heun import HeunDiscreteScheduler
from minildm.schedulers.lcm import LCMScheduler, boundary_scalings
from minildm.schedulers.pndm import PNDMScheduler
from minildm.schedulers.sigmas import SigmaScheduler, exponential_sigmas, karras_sigmas

SAMPLERS = {
    "ddpm": DDPMScheduler,
    "ddim": DDIMScheduler,
    "pndm": PNDMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_a": EulerAncestralDiscreteScheduler,
    "heun": HeunDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "lcm": LCMScheduler,
    "flow_euler": FlowMatchEulerDiscreteScheduler,
}

SPACED_SAMPLERS = {
    f"{name}_{rule}": (name, rule)
    for name in ("euler", "heun", "dpmpp_2m")
    for rule in ("karras", "exponential")
}
"""Those that can space their sigmas by a rule, as in "dpmpp_2m_karras" -> the name without it, and
the rule."""


def sampler_name(scheduler: Scheduler) -> str:
    """What a scheduler is called among `SAMPLERS` or, if its sigmas are spaced by a rule,
    `SPACED_SAMPLERS`."""
    name = next(name for name, class_ in SAMPLERS.items() if type(scheduler) is class_)
    rules = [
        rule for rule in ("karras", "exponential") if scheduler.config.get(f"use_{rule}_sigmas")
    ]
    return "_".join([name, *rules])


__all__ = [
    "SAMPLERS",
    "SPACED_SAMPLERS",
    "SPACINGS",
    "Scheduler",
    "SigmaScheduler",
    "boundary_scalings",
    "ddim_step",
    "ddpm_posterior",
    "exponential_sigmas",
    "karras_sigmas",
    "sampler_name",
    *sorted(scheduler.__name__ for scheduler in SAMPLERS.values()),
]
