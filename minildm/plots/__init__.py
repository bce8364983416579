"""The figures of the course."""

from minildm.plots.bars import (
    ORANGE,
    overlay,
    plot_groups,
    plot_side_by_side,
    plot_word_maps,
)
from minildm.plots.cifar import plot_confusion
from minildm.plots.costs import plot_costs
from minildm.plots.curves import plot_curves, plot_feature_maps, plot_scores
from minildm.plots.distillation import plot_ends, plot_quality_time
from minildm.plots.gan import plot_games, plot_progress
from minildm.plots.images import (
    Images,
    image_grid,
    mosaic,
    plot_densities,
    plot_filmstrip,
    plot_histograms,
    plot_moments,
    plot_schedules,
    plot_spectra,
    save_grid,
)
from minildm.plots.latents import plot_map
from minildm.plots.maps import map_pictures
from minildm.plots.metrics import plot_against_size, plot_balls, plot_repeats, plot_table
from minildm.plots.points import plot_fields, plot_levels, plot_points
from minildm.plots.sampling import Curve, plot_convergence, plot_paths, plot_quality
from minildm.plots.tables import plot_matrices

__all__ = [
    "Curve",
    "Images",
    "ORANGE",
    "image_grid",
    "map_pictures",
    "mosaic",
    "overlay",
    "plot_against_size",
    "plot_balls",
    "plot_confusion",
    "plot_convergence",
    "plot_costs",
    "plot_curves",
    "plot_densities",
    "plot_ends",
    "plot_feature_maps",
    "plot_fields",
    "plot_filmstrip",
    "plot_games",
    "plot_groups",
    "plot_histograms",
    "plot_levels",
    "plot_map",
    "plot_matrices",
    "plot_moments",
    "plot_paths",
    "plot_points",
    "plot_progress",
    "plot_quality",
    "plot_quality_time",
    "plot_repeats",
    "plot_schedules",
    "plot_scores",
    "plot_side_by_side",
    "plot_spectra",
    "plot_table",
    "plot_word_maps",
    "save_grid",
]
