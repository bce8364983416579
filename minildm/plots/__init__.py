"""The figures of the course."""

from minildm.plots.bars import (
    plot_costs,
    plot_groups,
    plot_histograms,
    plot_repeats,
    plot_scores,
)
from minildm.plots.curves import (
    plot_against_size,
    plot_curves,
    plot_densities,
    plot_levels,
    plot_moments,
    plot_progress,
    plot_schedules,
    plot_side_by_side,
    plot_spectra,
)
from minildm.plots.diagrams import plot_pipeline, plot_transformer_block, plot_unet
from minildm.plots.images import (
    ORANGE,
    Images,
    image_grid,
    map_pictures,
    mosaic,
    overlay,
    plot_feature_maps,
    plot_filmstrip,
    plot_word_maps,
    save_grid,
)
from minildm.plots.points import plot_balls, plot_fields, plot_games, plot_map, plot_points
from minildm.plots.sampling import (
    Curve,
    plot_convergence,
    plot_ends,
    plot_paths,
    plot_quality,
    plot_quality_time,
)
from minildm.plots.style import styled
from minildm.plots.tables import plot_confusion, plot_matrices, plot_table

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
    "plot_pipeline",
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
    "plot_transformer_block",
    "plot_unet",
    "plot_word_maps",
    "save_grid",
    "styled",
]
