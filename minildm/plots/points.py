"""Points, arrows, paths and pictures at their places in the plane. Chapters 03, 06, 12 and 13."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minildm.device import on_cpu
from minildm.plots.images import mosaic
from minildm.plots.style import COLOURS, GREY, PAGE_WIDTH, styled, take_off_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@on_cpu
def plot_points(
    panels: Mapping[str, Tensor | tuple[Tensor, Tensor]], extent: float = 3.0
) -> Figure:
    """Points in the plane, a panel for each title; of two sets in a panel the first lies in grey
    beneath.

    panels: title -> (N, 2), or (beneath (M, 2), points (N, 2)). Each panel shows [-extent, extent]
        both ways.
    """
    with _squares(list(panels), extent) as (figure, axes):
        for ax, points in zip(axes, panels.values(), strict=True):
            if isinstance(points, tuple):
                beneath, points = points
                ax.scatter(beneath[:, 0], beneath[:, 1], s=1.5, color=GREY, alpha=0.5, linewidths=0)
            ax.scatter(points[:, 0], points[:, 1], s=4, color=COLOURS[0], linewidths=0)
    return figure


@on_cpu
def plot_fields(
    fields: Sequence[Tensor], titles: Sequence[str], extent: float, points: Tensor | None = None
) -> Figure:
    """Arrows over the plane, a panel for each field: all of one length, the darker the stronger.

    fields: each (G, G, 2), its entry i, j at y = linspace(-extent, extent, G)[i] and
        x = linspace(-extent, extent, G)[j]
    points: (N, 2)
    """
    with _squares(titles, extent) as (figure, axes):
        for ax, field in zip(axes, fields, strict=True):
            places = torch.linspace(-extent, extent, len(field))
            if points is not None:
                x, y = points[:, 0], points[:, 1]
                ax.scatter(x, y, s=1.5, color=COLOURS[1], alpha=0.5, linewidths=0)
            strength = field.norm(dim=-1)
            strongest = float(strength.max())
            u, v = (field / strength.clamp(min=1e-12)[..., None]).unbind(-1)
            ax.quiver(
                places,
                places,
                u,
                v,
                strength,
                cmap="Blues",
                clim=(-0.4 * strongest, strongest),
                pivot="mid",
                angles="xy",
                scale=len(field) * 1.15,
                width=0.008,
            )
    return figure


@on_cpu
def plot_games(games: Mapping[str, Tensor], xlabel: str, ylabel: str) -> Figure:
    """The path of two numbers that change together, a panel for each name; it begins at the dot.
    name -> (steps, 2)."""
    with styled(1, len(games), height=2.9, sharex=True, sharey=True) as (figure, axes):
        for ax, (name, path) in zip(axes, games.items(), strict=True):
            x, y = path[:, 0], path[:, 1]
            ax.axhline(0, color=GREY, linewidth=0.8, zorder=1)
            ax.axvline(0, color=GREY, linewidth=0.8, zorder=1)
            ax.plot(x, y, color=COLOURS[0], linewidth=1)
            ax.plot(x[0], y[0], "o", color=COLOURS[1], markersize=6)
            ax.set(title=name, xlabel=xlabel, aspect="equal")
        axes[0].set_ylabel(ylabel)
    return figure


@on_cpu
def plot_balls(real: Tensor, radius: Tensor, generated: Tensor, inside: Tensor) -> Figure:
    """Points in a plane: a ball of `radius` (N,) around every real one (N, 2), and the generated
    ones (M, 2), filled where they are `inside` (M,) of some ball."""
    from matplotlib.patches import Circle

    with styled(width=0.75 * PAGE_WIDTH, height=PAGE_WIDTH / 2) as (figure, (ax,)):
        for (x, y), r in zip(real.tolist(), radius.tolist(), strict=True):
            ax.add_patch(Circle((x, y), r, facecolor=COLOURS[0], alpha=0.1, edgecolor="none"))
        ax.plot(real[:, 0], real[:, 1], ".", color=COLOURS[0], markersize=5, label="real")
        for chosen, fill, name in (
            (inside, COLOURS[1], "generated, inside"),
            (~inside, "none", "generated, outside"),
        ):
            points = generated[chosen]
            ax.plot(
                points[:, 0],
                points[:, 1],
                "o",
                color=COLOURS[1],
                markerfacecolor=fill,
                markersize=6,
                label=name,
            )
        ax.set(aspect="equal", xticks=[], yticks=[])
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    return figure


@on_cpu
def plot_map(
    images: Tensor, places: Tensor, xlabel: str = "", ylabel: str = "", zoom: float = 0.5
) -> Figure:
    """Each picture at its place in the plane. images: (N, 1 or 3, h, w) in [-1, 1]; places: (N, 2).

    Black is left transparent in pictures of one channel, so that neighbours do not hide each other.
    """
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    if places.shape != (len(images), 2):
        raise ValueError(
            f"expected a place (x, y) for each of {len(images)} images, got {tuple(places.shape)}"
        )
    with styled(height=4.6) as (figure, (ax,)):
        for image, (x, y) in zip(images, places.tolist(), strict=True):
            pixels = mosaic(image[None])
            box = OffsetImage(pixels, zoom=zoom, cmap="Greys")  # of no account to three channels
            if pixels.ndim == 2:
                box.image.set_clim(0, 255)
                box.image.set_alpha(pixels / 255.0)
            ax.add_artist(AnnotationBbox(box, (x, y), frameon=False, pad=0))
        low, high = places.amin(0), places.amax(0)
        margin = 0.05 * (high - low)
        left, bottom = (low - margin).tolist()
        right, top = (high + margin).tolist()
        ax.set(xlim=(left, right), ylim=(bottom, top), xlabel=xlabel, ylabel=ylabel)
    return figure


@contextmanager
def _squares(titles: Sequence[str], extent: float) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of square axes without ticks side by side, one for each title."""
    if not titles:
        raise ValueError("expected at least one panel, got none")
    side = PAGE_WIDTH / max(3, len(titles))  # inches
    with styled(1, len(titles), width=side * len(titles), height=side + 0.3) as (figure, axes):
        for ax, title in zip(axes, titles, strict=True):
            ax.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal")
            ax.set(xticks=[], yticks=[])
            ax.set_title(title, fontsize=9)
            take_off_frame(ax)
        yield figure, axes
