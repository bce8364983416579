"""The schedulers: a file for each algorithm, `base.py` for what they share. Chapter 05."""

from minildm.schedulers.base import Scheduler
from minildm.schedulers.ddim import DDIMScheduler
from minildm.schedulers.ddpm import DDPMScheduler
from minildm.schedulers.dpm_solver import DPMSolverMultistepScheduler
from minildm.schedulers.euler import EulerDiscreteScheduler
from minildm.schedulers.flow_match_euler import FlowMatchEulerDiscreteScheduler
from minildm.schedulers.heun import HeunDiscreteScheduler
from minildm.schedulers.pndm import PNDMScheduler

SAMPLERS = {
    "ddpm": DDPMScheduler,
    "ddim": DDIMScheduler,
    "pndm": PNDMScheduler,
    "euler": EulerDiscreteScheduler,
    "heun": HeunDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "flow_euler": FlowMatchEulerDiscreteScheduler,
}

__all__ = ["SAMPLERS", "Scheduler", *sorted(scheduler.__name__ for scheduler in SAMPLERS.values())]
