"""Assignments that grade themselves, written and read as nbgrader does.

What an assignment's hidden tests call stands here; it is imported on first use, since what a
submission runs in is started from this package too, and must be quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minildm.grading.judging import check, same, seed_of

__all__ = ["check", "same", "seed_of"]


def __getattr__(name: str) -> Any:
    """Import a name of `judging` on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'minildm.grading' has no attribute {name!r}")
    return getattr(import_module("minildm.grading.judging"), name)
