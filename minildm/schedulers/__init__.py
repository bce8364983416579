"""The schedulers: a file for each algorithm, `base.py` for what they share. Chapter 05."""

from minildm.schedulers.base import Scheduler
from minildm.schedulers.ddim import DDIMScheduler, ddim_step
from minildm.schedulers.ddpm import DDPMScheduler, ddpm_posterior
from minildm.schedulers.dpm_solver import DPMSolverMultistepScheduler
from minildm.schedulers.euler import EulerDiscreteScheduler
from minildm.schedulers.euler_ancestral import EulerAncestralDiscreteScheduler
from minildm.schedulers.flow_match_euler import FlowMatchEulerDiscreteScheduler
from minildm.schedulers.heun import HeunDiscreteScheduler
from minildm.schedulers.lcm import LCMScheduler, boundary_scalings
from minildm.schedulers.pndm import PNDMScheduler
from minildm.schedulers.samplers import SAMPLERS, SPACED_SAMPLERS, sampler_name
from minildm.schedulers.sigmas import (
    SigmaScheduler,
    VarianceExplodingScheduler,
    exponential_sigmas,
    karras_sigmas,
)
from minildm.schedulers.timesteps import SPACINGS, evenly_spaced

__all__ = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "SAMPLERS",
    "SPACED_SAMPLERS",
    "SPACINGS",
    "Scheduler",
    "SigmaScheduler",
    "VarianceExplodingScheduler",
    "boundary_scalings",
    "ddim_step",
    "ddpm_posterior",
    "evenly_spaced",
    "exponential_sigmas",
    "karras_sigmas",
    "sampler_name",
]
