"""A noise schedule to be shaped by hand, and what it makes of a picture. Chapter 02."""

from __future__ import annotations

import anywidget
import torch
import traitlets
from torch import Tensor

from minildm.diffusion.schedules import BETA_SCHEDULES, make_betas
from minildm.widgets.page import as_bytes, script, style, within


class ScheduleDesigner(anywidget.AnyWidget):
    """A schedule, its two ends and a timestep; the page computes what follows from them: see
    `schedule_designer`.

    All six traits below the line can be read and set from Python.
    """

    _esm = script("schedule.js")
    _css = style("schedule.css")
    names = traitlets.List(traitlets.Unicode(), list(BETA_SCHEDULES)).tag(sync=True)
    image = traitlets.Bytes().tag(sync=True)  # shape, float32
    noise = traitlets.Bytes().tag(sync=True)
    shape = traitlets.List(traitlets.Int()).tag(sync=True)  # (C, h, w)
    # ---
    num_train_timesteps = traitlets.Int(1000).tag(sync=True)
    beta_schedule = traitlets.Unicode("linear").tag(sync=True)
    beta_start = traitlets.Float(1e-4).tag(sync=True)
    beta_end = traitlets.Float(0.02).tag(sync=True)
    rescale = traitlets.Bool(False, help="to zero terminal SNR").tag(sync=True)
    t = traitlets.Int(0).tag(sync=True)

    @traitlets.validate("beta_schedule", "beta_start", "beta_end", "num_train_timesteps")
    def _possible(self, proposal: traitlets.Bunch) -> str | float:
        names = ("beta_schedule", "num_train_timesteps", "beta_start", "beta_end")
        settings = {name: getattr(self, name) for name in names}
        settings[proposal["trait"].name] = proposal["value"]
        make_betas(**settings)
        return proposal["value"]

    _within, _kept = within(t=lambda widget: (0, widget.num_train_timesteps - 1))


def schedule_designer(
    image: Tensor, noise: Tensor | None = None, num_train_timesteps: int = 1000
) -> ScheduleDesigner:
    """A widget in which the reader chooses a schedule of `minildm.diffusion`, drags its ends and
    moves t, and sees ᾱ_t, log SNR and the noised picture at once.

    image: (1, 1 or 3, h, w) in [-1, 1]
    noise: of its shape, by default standard normal noise of seed 0
    """
    if image.ndim != 4 or image.shape[0] != 1 or image.shape[1] not in (1, 3) or 0 in image.shape:
        raise ValueError(f"expected an image (1, 1 or 3, h, w), got {tuple(image.shape)}")
    if not (image.abs() <= 1).all():
        raise ValueError(
            f"expected an image in [-1, 1], got {float(image.min()):g} to {float(image.max()):g}"
        )
    if noise is None:
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    if noise.shape != image.shape or not noise.isfinite().all():
        raise ValueError(f"expected finite noise {tuple(image.shape)}, got {tuple(noise.shape)}")
    make_betas("linear", num_train_timesteps)  # an error says how many there may be
    return ScheduleDesigner(
        image=as_bytes(image),
        noise=as_bytes(noise),
        shape=list(image.shape[1:]),
        num_train_timesteps=num_train_timesteps,
        t=num_train_timesteps // 4,
    )
