"""What every model and scheduler has: a configuration that it was made with, and files for it and
for the weights, as diffusers and transformers lay them out. Chapters 11 and 19."""

from minildm.configuration.keywords import FOREIGN, check_foreign
from minildm.configuration.kinds import as_float, checked_count
from minildm.configuration.mixins import (
    DIFFUSERS_VERSION,
    Config,
    ConfigMixin,
    ModelMixin,
    frozen,
    given_keys,
    register_to_config,
)

__all__ = [
    "DIFFUSERS_VERSION",
    "FOREIGN",
    "Config",
    "ConfigMixin",
    "ModelMixin",
    "as_float",
    "check_foreign",
    "checked_count",
    "frozen",
    "given_keys",
    "register_to_config",
]
