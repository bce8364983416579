"""How every model and scheduler keeps its configuration and weights: keyword arguments in a
`config.json`, tensors in a safetensors file, laid out as diffusers and transformers lay them out
(von Platen et al. 2022). Chapters 11 and 19."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import (
    Any,
    ClassVar,
    Concatenate,
    NoReturn,
    ParamSpec,
    Self,
    TypeVar,
    get_type_hints,
)

import numpy as np
import torch
from torch import Tensor, nn

from minildm.configuration.keywords import check_foreign
from minildm.configuration.kinds import expected_kind
from minildm.files import read_json, read_tensors, write_json, write_tensors
from minildm.state_dicts import (
    check_dtype,
    chosen_dtype,
    describe_mismatch,
    describe_nonfinite,
    not_much_larger,
    rename_legacy,
)

# The oldest diffusers release whose configuration keys are the ones we write.
DIFFUSERS_VERSION = "0.35.0"

Configured = TypeVar("Configured", bound="ConfigMixin")
Arguments = ParamSpec("Arguments")


class Config(dict):
    """A read-only dict whose entries are attributes too: `config.in_channels` is
    `config["in_channels"]`. defaults: the keys that nobody gave."""

    defaults: frozenset[str]

    def __init__(self, entries: Mapping[str, Any], defaults: Collection[str] = ()):
        super().__init__(entries)
        self.__dict__["defaults"] = frozenset(defaults)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"the configuration has no key {name!r}; it has: {', '.join(self)}"
            ) from None

    def _read_only(*args: Any, **kwargs: Any) -> NoReturn:  # of self, too: dict's have many forms
        raise TypeError(
            "a configuration is read-only: make a new object with from_config(config, key=value)"
        )

    __setattr__ = __setitem__ = __delattr__ = __delitem__ = _read_only
    update = pop = popitem = clear = setdefault = __ior__ = _read_only

    def __reduce__(self) -> tuple:
        # copy and pickle rebuild it whole, since they may not fill it key by key
        return Config, (dict(self), self.defaults)


def register_to_config(
    init: Callable[Concatenate[Configured, Arguments], None],
) -> Callable[Concatenate[Configured, Arguments], None]:
    """Written above the `__init__` of a ConfigMixin: before anything else it keeps the arguments,
    defaults included, in `self.config`, where the body and every method find them. It takes the
    keys of `unsupported`, too, at the values that we accept."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def recorded_init(self: Configured, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        # a parent's constructor, called from a child's, records nothing
        if "config" not in self.__dict__:
            others = {key: frozen(kwargs.pop(key)) for key in self.unsupported if key in kwargs}
            self.check_unsupported(others)
            bound = signature.bind(self, *args, **kwargs)
            given = {*bound.arguments}
            bound.apply_defaults()
            values = {key: frozen(value) for key, value in list(bound.arguments.items())[1:]}
            self.config = Config({**values, **others}, defaults=values.keys() - given)
        init(self, *args, **kwargs)

    return recorded_init


class ConfigMixin:
    """Keeps the constructor's keyword arguments, `self.config`, in `<folder>/<config_name>`.

    A subclass writes `@register_to_config` above its `__init__`, whose arguments have diffusers'
    names and defaults. `unsupported` names the keys that diffusers' configuration has and ours does
    not implement -> the value we accept, or a tuple of such values, or `...` for a key that may be
    anything since it changes nothing here. `stamp`: what the file tells other libraries beside it.
    """

    config: Config
    config_name: ClassVar[str] = "config.json"
    unsupported: ClassVar[dict[str, Any]] = {}
    stamp: ClassVar[dict[str, Any]] = {"_diffusers_version": DIFFUSERS_VERSION}

    @classmethod
    def identity(cls) -> dict[str, Any]:
        """The entries of the file that say which class it configures."""
        return {"_class_name": cls.__name__}

    @classmethod
    def arguments(cls) -> list[str]:
        """The keys that the constructor asks for."""
        return [*inspect.signature(cls.__init__).parameters][1:]

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **overrides: Any) -> Self:
        """A new object from a mapping of keys, such as `other.config`, whose defaults are not
        handed on; a key that is not supported is a ValueError."""
        cls.check_recorded()
        given = {**given_keys(config), **overrides}
        arguments = cls.arguments()
        own = {*arguments, *cls.identity()}
        cls.check_unsupported(
            {key: value for key, value in given.items() if key not in own and key[:1] != "_"}
        )
        known = {key: value for key, value in given.items() if key in arguments}
        kinds = get_type_hints(cls.__init__)
        for key, value in known.items():
            if expected := expected_kind(key, frozen(value), kinds.get(key, Any)):
                raise ValueError(f"{cls.__name__}: expected {key} to be {expected}, got {value!r}")
        return cls(**known)

    @classmethod
    def check_recorded(cls) -> None:
        """ValueError for a class whose constructor does not keep its arguments: its files would
        hold its parent's, or none."""
        if not hasattr(cls.__init__, "__wrapped__"):
            raise ValueError(
                f"expected @register_to_config above {cls.__name__}.__init__, got none"
            )

    @classmethod
    def check_unsupported(cls, keys: Mapping[str, Any]) -> None:
        """ValueError unless keys that the constructor lacks have values that change nothing."""
        for key, value in keys.items():
            if key in cls.unsupported:
                accepted = cls.unsupported[key]
                values = accepted if isinstance(accepted, tuple) else (accepted,)
                if accepted is not ... and frozen(value) not in values:
                    expected = " or ".join(map(repr, values))
                    got = f"got {value!r}"
                    raise ValueError(f"{cls.__name__} supports only {key} = {expected}, {got}")
            # None and False both mean "without it", and so are we
            elif value is not None and value is not False:
                raise ValueError(
                    f"{cls.__name__} does not support the configuration key {key!r} (got {value!r})"
                )

    @classmethod
    def load_config(cls, folder: str | os.PathLike) -> dict[str, Any]:
        """Read `<folder>/<config_name>`; it must be this class's."""
        file = Path(folder) / cls.config_name
        if not Path(folder).is_dir():
            raise FileNotFoundError(
                f"{folder}: no such folder; expected one that holds {_a(cls.__name__)}"
            )
        config = read_json(file, f"the configuration of {_a(cls.__name__)}")
        for key, expected in cls.identity().items():
            if config.get(key, expected) != expected:
                raise ValueError(
                    f"{file}: expected {_a(cls.__name__)} ({key} = {expected!r}), "
                    f"got {config[key]!r}"
                )
        return config

    def save_config(self, folder: str | os.PathLike) -> None:
        """Write `<folder>/<config_name>`, whole or not at all."""
        self.check_recorded()
        Path(folder).mkdir(parents=True, exist_ok=True)
        content = {**self.identity(), **self.stamp, **self.config} | self.stamp
        write_json(Path(folder) / self.config_name, content)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike) -> Self:
        """A new object as `<folder>/<config_name>` says, which every error names; a model's weights
        are random."""
        config, file = cls.load_config(folder), Path(folder) / cls.config_name
        try:
            return cls.from_config(config)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        except (RuntimeError, TypeError, ArithmeticError, LookupError) as error:
            # numbers that do not go together
            made, reason = _a(cls.__name__), " ".join(str(error).split())
            raise ValueError(
                f"{file}: expected numbers that make {made}, got some that fail: {reason}"
            ) from error

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike, subfolder: str | None = None, **foreign: object
    ) -> Self:
        """The object that `save_pretrained` (or diffusers) wrote into `folder`, or into its
        `subfolder`. foreign: see `keywords.FOREIGN`."""
        check_foreign(f"{cls.__name__}.from_pretrained", foreign)
        return cls.from_folder(Path(folder) / (subfolder or ""))

    def save_pretrained(self, folder: str | os.PathLike, **foreign: object) -> None:
        """Write everything that `from_pretrained` needs into `folder`."""
        check_foreign(f"{type(self).__name__}.save_pretrained", foreign)
        self.save_config(folder)


class ModelMixin(ConfigMixin, nn.Module):
    """A ConfigMixin for an nn.Module: its weights lie beside the configuration, as safetensors,
    never as a pickle."""

    weights_name: ClassVar[str] = "diffusion_pytorch_model.safetensors"

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def __call__(self, *inputs: object, **options: object) -> Any:
        """As any module's; diffusers' return_dict is refused with a word on what is returned."""
        if "return_dict" in options:
            check_foreign(type(self).__name__, {"return_dict": options["return_dict"]})
        return super().__call__(*inputs, **options)

    @classmethod
    def weights_file(cls, folder: str | os.PathLike, variant: str | None = None) -> Path:
        """Where in `folder` the weights lie; those of a variant, "fp16" say, beside the others."""
        stem, _, suffix = cls.weights_name.partition(".")
        return Path(folder) / (f"{stem}.{variant}.{suffix}" if variant else cls.weights_name)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike,
        dtype: torch.dtype | None = None,
        subfolder: str | None = None,
        variant: str | None = None,
        torch_dtype: torch.dtype | None = None,
        **foreign: object,
    ) -> Self:
        """The model in `folder`, or in its `subfolder`, in evaluation mode. Half-precision files
        become float32 unless `dtype`, also called `torch_dtype`, is given.

        A file that is truncated, of another model or of another configuration, or that holds NaN: a
        ValueError of one line.
        """
        check_foreign(f"{cls.__name__}.from_pretrained", foreign)
        dtype, folder = chosen_dtype(dtype, torch_dtype), Path(folder) / (subfolder or "")
        cls.load_config(folder)  # if it is not there, that comes before all else
        file = cls.weights_file(folder, variant)
        state_dict = rename_legacy(read_tensors(file, f"the weights of {_a(cls.__name__)}"))
        with not_much_larger(state_dict):
            model = cls.from_folder(folder).to(dtype or torch.get_default_dtype())
        if mismatch := describe_mismatch(model.state_dict(), state_dict):
            raise ValueError(
                f"{file}: expected the weights of the {cls.__name__} in {cls.config_name}, "
                f"got {mismatch}"
            )
        model.load_state_dict(state_dict)
        if fault := describe_nonfinite(model.state_dict()):
            raise ValueError(f"{file}: expected finite weights, got {fault}")
        return model.eval()

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        dtype: torch.dtype | None = None,
        variant: str | None = None,
        **foreign: object,
    ) -> None:
        """Write configuration and weights; `dtype` (float16, say) is that of the file, not of the
        model."""
        check_foreign(f"{type(self).__name__}.save_pretrained", foreign)
        check_dtype(dtype)
        self.check_recorded()
        file = self.weights_file(folder, variant)
        file.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"format": "pt"}  # transformers asks for this entry
        # before the configuration: if the disk is full, what the folder held still fits together
        write_tensors(file, self.state_dict(), metadata, dtype)
        self.save_config(folder)


def given_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, ours or a diffusers object's, without the keys left to their defaults."""
    left = config.defaults if isinstance(config, Config) else config.get("_use_default_values", ())
    return {key: value for key, value in config.items() if key not in left}


def frozen(value: Any) -> Any:
    """JSON has only lists, and numbers of Python's own; a configuration holds tuples of them."""
    if isinstance(value, (np.ndarray, np.generic, Tensor)):
        value = value.tolist()
    return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' and name[:2] != 'UN' else 'a'} {name}"
