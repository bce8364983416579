"""All samplers by name, and the name of each. Chapter 05."""

from __future__ import annotations

from minildm.schedulers.base import Scheduler
from minildm.schedulers.ddim import DDIMScheduler
from minildm.schedulers.ddpm import DDPMScheduler
from minildm.schedulers.dpm_solver import DPMSolverMultistepScheduler
from minildm.schedulers.euler import EulerDiscreteScheduler
from minildm.schedulers.euler_ancestral import EulerAncestralDiscreteScheduler
from minildm.schedulers.flow_match_euler import FlowMatchEulerDiscreteScheduler
from minildm.schedulers.heun import HeunDiscreteScheduler
from minildm.schedulers.lcm import LCMScheduler
from minildm.schedulers.pndm import PNDMScheduler

SAMPLERS: dict[str, type[Scheduler]] = {
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

SPACING_RULES = ("karras", "exponential")

SPACED_SAMPLERS = {
    f"{name}_{rule}": (name, rule)
    for name in ("euler", "heun", "dpmpp_2m")
    for rule in SPACING_RULES
}
"""Those that can space their sigmas by a rule, as in "dpmpp_2m_karras" -> the name without it, and
the rule."""


def sampler_name(scheduler: Scheduler) -> str:
    """What a scheduler is called among `SAMPLERS` or, if its sigmas are spaced by a rule,
    `SPACED_SAMPLERS`."""
    name = next(name for name, class_ in SAMPLERS.items() if type(scheduler) is class_)
    spaced = name in [plain for plain, _ in SPACED_SAMPLERS.values()]  # others only carry the key
    rules = [rule for rule in SPACING_RULES if spaced and scheduler.config[f"use_{rule}_sigmas"]]
    return "_".join([name, *rules])
