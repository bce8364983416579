"""Lines over one axis: noise schedules, what was measured against what a formula says, and scores
against what they depend on. Chapters 01 to 04, 09, 12 and 13."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minildm.device import on_cpu
from minildm.plots.style import COLOURS, DASHES, GREY, LOOKS, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SNR_RANGE = (1e-6, 1e5)


@on_cpu
def plot_curves(
    x: Sequence[float],
    curves: Mapping[str, Tensor],
    xlabel: str,
    ylabel: str,
    title: str = "",
    logarithmic: bool = False,
    level: float | None = None,
) -> Figure:
    """Lines over one axis; of several seeds the mean, with one standard deviation to either side as
    a bar.

    curves: name -> (len(x),) or (seeds, len(x)), at most seven; level: where a thin grey line lies.
    """
    if not 1 <= len(curves) <= len(COLOURS):
        raise ValueError(f"expected 1 to {len(COLOURS)} curves, got {len(curves)}")
    for name, values in curves.items():
        if values.ndim not in (1, 2) or values.shape[-1] != len(x):
            raise ValueError(
                f"expected ({len(x)},) or (seeds, {len(x)}) for {name!r}, got {tuple(values.shape)}"
            )
    with styled(height=3.2) as (figure, (ax,)):
        if level is not None:
            ax.axhline(level, color=GREY, linewidth=1, zorder=1)
        for (name, values), (colour, dashes) in zip(curves.items(), LOOKS, strict=False):
            if values.ndim == 2 and len(values) > 1:
                mean, deviation = values.mean(0), values.std(0)
                ax.errorbar(
                    x,
                    mean,
                    deviation,
                    color=colour,
                    linestyle=dashes,
                    label=name,
                    capsize=2,
                    elinewidth=1,
                )
            else:
                ax.plot(x, values.reshape(len(x)), linestyle=dashes, color=colour, label=name)
        ax.set(xlabel=xlabel, ylabel=ylabel, title=title, yscale="log" if logarithmic else "linear")
        figure.legend(loc="outside right upper", handlelength=3.2)
    return figure


@on_cpu
def plot_levels(
    curves: Mapping[str, Tensor],
    log_snr: Tensor,
    ylabel: str,
    log: bool = True,
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """Curves over the noise levels: much noise on the left, little on the right.

    curves: name -> (L,), at most seven; log_snr: (L,).
    """
    if not 1 <= len(curves) <= len(COLOURS):
        raise ValueError(f"expected 1 to {len(COLOURS)} curves, got {len(curves)}")
    with styled(height=3.0) as (figure, (ax,)):
        for (name, values), (colour, dashes) in zip(curves.items(), LOOKS, strict=False):
            ax.plot(log_snr, values, color=colour, linestyle=dashes, label=name)
        ax.set(xlabel="log SNR: noise on the left, clean on the right", ylabel=ylabel)
        ax.set_yscale("log" if log else "linear")
        if ylim is not None:
            ax.set_ylim(ylim)
        figure.legend(loc="outside upper center", ncols=min(4, len(curves)), handlelength=3.2)
    return figure


@on_cpu
def plot_side_by_side(
    x: Sequence[float],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    xlabel: str,
    levels: Sequence[float] = (),
) -> Figure:
    """A panel for each quantity over one axis, in each a line for each name.

    panels: quantity -> name -> len(x) numbers. levels: a thin line in each panel, for comparison.
    """
    for quantity, curves in panels.items():
        lengths = {name: len(values) for name, values in curves.items()}
        wrong = {name: length for name, length in lengths.items() if length != len(x)}
        if wrong:
            raise ValueError(
                f"expected {len(x)} numbers for each line of {quantity!r}, got {wrong}"
            )
    with styled(1, len(panels), height=2.9) as (figure, axes):
        for i, (ax, (quantity, curves)) in enumerate(zip(axes, panels.items(), strict=True)):
            for (name, values), (colour, dashes) in zip(curves.items(), LOOKS, strict=False):
                ax.plot(
                    x, values, color=colour, linestyle=dashes, marker="o", markersize=3, label=name
                )
            if i < len(levels):
                ax.axhline(levels[i], color=GREY, linewidth=1, zorder=1)
            ax.set(title=quantity, xlabel=xlabel)
            if len(curves) > 1:
                ax.legend(fontsize=8)
    return figure


@on_cpu
def plot_schedules(schedules: Mapping[str, Tensor]) -> Figure:
    """Noise schedules side by side: on the left what is left of the picture, ᾱ_t; on the right the
    ratio of signal to noise, SNR = ᾱ_t / (1 - ᾱ_t), on a logarithmic scale, where one that ends in
    pure noise leaves through the floor.

    schedules: name -> alphas_cumprod (T,) in [0, 1]; at most seven.
    """
    if not 1 <= len(schedules) <= len(COLOURS):
        raise ValueError(f"expected 1 to {len(COLOURS)} schedules, got {len(schedules)}")
    for name, alphas in schedules.items():
        if alphas.ndim != 1 or not ((0 <= alphas) & (alphas <= 1)).all():
            raise ValueError(
                f"expected alphas_cumprod (T,) in [0, 1] for {name!r}, got {tuple(alphas.shape)}"
            )
    with styled(1, 2, height=3.0) as (figure, (left, right)):
        for (name, alphas), (colour, dashes) in zip(schedules.items(), LOOKS, strict=False):
            alphas_cumprod = alphas.double()
            snr = alphas_cumprod / (1 - alphas_cumprod)
            shown = snr.clamp(SNR_RANGE[0] / 1e3, SNR_RANGE[1] * 1e3)
            left.plot(alphas_cumprod, color=colour, linestyle=dashes, label=name)
            right.plot(shown, color=colour, linestyle=dashes)
        left.set(title="What is left of the picture", ylim=(-0.02, 1.02))
        left.set_ylabel(r"$\bar\alpha_t$, share of the variance")
        right.set(title="Signal against noise", yscale="log", ylim=SNR_RANGE)
        right.set_ylabel(r"SNR $=\bar\alpha_t\,/\,(1-\bar\alpha_t)$")
        right.axhline(1, color=GREY, linewidth=1, zorder=1)
        below = "below the line: more noise\nthan picture"
        right.text(0, 2 * SNR_RANGE[0], below, fontsize=8, color=GREY)
        for ax in (left, right):
            ax.set_xlabel("timestep t (steps of noise added)")
        columns = 90 // (max(map(len, schedules)) + 10)
        figure.legend(loc="outside upper center", ncols=max(1, columns), handlelength=3.2)
    return figure


@on_cpu
def plot_moments(
    values: Tensor,
    mean: Tensor,
    variance: Tensor,
    xlabel: str = "pixel along the row",
    ylabel: str = "brightness",
) -> Figure:
    """What many runs came to, as dots, against what a formula says of them, as a line; mean ± one
    standard deviation.

    values: (runs, positions); mean: (positions,); variance: () or (positions,).
    """
    deviation = variance**0.5 * torch.ones_like(mean)
    low, high = mean - deviation, mean + deviation
    formula, measured = COLOURS[:2]
    place = range(len(mean))
    with styled(height=2.8) as (figure, (ax,)):
        ax.plot(place, mean, color=formula, label="formula: mean")
        ax.fill_between(place, low, high, color=formula, alpha=0.15, linewidth=0)
        label = "formula: one standard deviation off"
        ax.plot(place, low, color=formula, linestyle="--", linewidth=1)
        ax.plot(place, high, color=formula, linestyle="--", linewidth=1, label=label)
        label = f"measured: {len(values):,} runs"
        centre, spread = values.mean(0), values.std(0)
        ax.plot(place, centre, "o", color=measured, markersize=4, label=label)
        for edge in (centre - spread, centre + spread):
            ax.plot(place, edge, "o", color=measured, markersize=4, fillstyle="none")
        ax.set(xlabel=xlabel, ylabel=ylabel)
        figure.legend(loc="outside upper center", ncols=3)
    return figure


@on_cpu
def plot_densities(
    x: Tensor,
    densities: Mapping[str, Tensor],
    samples: Tensor | None = None,
    xlabel: str = "",
    title: str = "",
) -> Figure:
    """Densities over one axis, as lines, and samples of the last of them, as a histogram.

    x: (N,), evenly spaced; densities: name -> (N,), scaled here so that each has area 1; samples:
        (M,).
    """
    step = float(x[1] - x[0])
    with styled(height=2.8) as (figure, (ax,)):
        for (name, density), (colour, dashes) in zip(densities.items(), LOOKS, strict=False):
            ax.plot(x, density / (density.sum() * step), color=colour, linestyle=dashes, label=name)
        if samples is not None:
            label = f"measured: {len(samples):,} samples"
            last = COLOURS[len(densities) - 1]
            ax.hist(samples.numpy(), bins=60, density=True, color=last, alpha=0.25, label=label)
        ax.set(xlabel=xlabel, ylabel="density", title=title, xlim=(float(x[0]), float(x[-1])))
        figure.legend(loc="outside right upper", handlelength=3.2)
    return figure


@on_cpu
def plot_spectra(spectra: Mapping[str, Tensor], share: float = 0.9) -> Figure:
    """How much of the variance the first k directions hold, and with a dot how many hold `share` of
    it.

    spectra: name -> variances (D,) along the directions, the largest first; k has a logarithmic
        axis.
    """
    with styled(height=3.2) as (figure, (ax,)):
        for (name, variances), (colour, dashes) in zip(spectra.items(), LOOKS, strict=False):
            held = variances.double().cumsum(0) / variances.double().sum()
            count = int((held < share).sum()) + 1
            label = f"{name}: {count:,} of {len(held):,}"
            ax.plot(range(1, len(held) + 1), held, color=colour, linestyle=dashes, label=label)
            ax.plot(count, held[count - 1], color=colour, marker="o", markersize=6)
        ax.axhline(share, color=GREY, linewidth=1, zorder=1)
        ax.set(xscale="log", xlabel="directions k, the widest first")
        ax.set(ylabel="share of the variance", ylim=(0, 1.02))
        figure.legend(loc="outside upper center", ncols=2, handlelength=3.2)
    return figure


@on_cpu
def plot_progress(
    runs: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]],
    xlabel: str,
    ylabel: str,
    floor: float | None = None,
    marks: Mapping[str, float] | None = None,
) -> Figure:
    """Scores while training goes on, a line a seed, logarithmic; the best of each line is a dot.

    runs: name -> of each seed (times, scores); floor: the score of real pictures; marks: name -> a
    score to compare with, as a line across.
    """
    with styled(height=3.3) as (figure, (ax,)):
        for i, (name, lines) in enumerate(runs.items()):
            colour, dashes = COLOURS[i], DASHES[i]
            for j, (times, scores) in enumerate(lines):
                label = name if j == 0 else None
                ax.plot(times, scores, color=colour, linestyle=dashes, linewidth=1.2, label=label)
                best = min(range(len(scores)), key=scores.__getitem__)
                ax.plot(times[best], scores[best], "o", color=colour, markersize=5)
        for i, (name, score) in enumerate((marks or {}).items(), start=len(runs)):
            ax.axhline(score, color=COLOURS[i], linestyle=DASHES[i], linewidth=1.2, label=name)
        if floor is not None:
            ax.axhline(floor, color=GREY, linewidth=1, zorder=1, label="real digits")
        ax.set(xlabel=xlabel, ylabel=ylabel, yscale="log")
        figure.legend(loc="outside right upper", handlelength=3.2)
    return figure


@on_cpu
def plot_against_size(
    sizes: Sequence[int], scores: Mapping[str, Tensor], xlabel: str = "number of pictures"
) -> Figure:
    """Scores of sets of several sizes, a panel for each name: every repeat a dot, their means a
    line.

    scores: name -> (len(sizes), repeats). The horizontal axis is logarithmic.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    with styled(1, len(scores), height=2.8) as (figure, axes):
        for ax, (name, values), colour in zip(axes, scores.items(), COLOURS, strict=False):
            for repeat in values.T:
                ax.plot(sizes, repeat, "o", color=colour, alpha=0.35, markersize=4)
            ax.plot(sizes, values.mean(1), color=colour, linewidth=1.6)
            ax.axhline(0, color=GREY, linewidth=1, zorder=1)
            ax.set(xscale="log", xlabel=xlabel, ylabel=name)
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter(NullFormatter())
    return figure
