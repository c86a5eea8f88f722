"""Clause T1: a configuration of the model and its parameters. Its formulas hold for more models than `validate` allows."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from ...signatures import number_text, table

LARGEST = float(np.finfo(np.float32).max)
FINITE = {  # the least and the greatest value of fp32 keys
    "rotary_base": (1, LARGEST), "norm_epsilon": (0, LARGEST), "zreg_c": (-LARGEST, LARGEST),
    "output_zreg_c": (-LARGEST, LARGEST), "clamp_kappa": (0, LARGEST), "clamp_limit": (0, LARGEST),
    "learning_rate": (0, LARGEST), "final_fraction": (0, 1), "adam_epsilon": (0, LARGEST),
    "weight_decay": (0, LARGEST), "clip_norm": (0, LARGEST),
}  # fmt: skip


class ConfigurationError(ValueError):
    """A configuration that no model has: the key and what was expected of it."""

    def __init__(self, key: str, message: str):
        super().__init__(f"configuration key '{key}': {message}")


def _fp32(value: float) -> np.float32:
    return np.float32(value)


@dataclass(frozen=True)
class Configuration:
    """The keys of `training.step`, with their defaults."""

    vocabulary: int = 256
    width: int = 64
    layers: int = 2
    heads: int = 4
    key_value_heads: int = 1
    head_dimension: int = 16
    feed_forward_width: int = 256
    sequence_length: int = 64
    batch: int = 4
    dot: str = "paired-ftz"
    windows: tuple[int, ...] = ()
    key_value_source: tuple[int, ...] = ()
    rotary_base: np.float32 = _fp32(10000)
    norm_epsilon: np.float32 = _fp32(2.0**-20)
    zreg_c: np.float32 = _fp32(2.0**-14)
    output_zreg_c: np.float32 = _fp32(2.0**-14)
    zreg_form: str = "folded"
    clamp: str = "dynamic"
    clamp_kappa: np.float32 = _fp32(4)
    clamp_limit: np.float32 = _fp32(16)
    clamp_gradient: str = "straight-through"
    int8: bool = False
    distillation_k: int = 0
    learning_rate: np.float32 = _fp32(2.0**-9)
    final_fraction: np.float32 = _fp32(0.125)
    beta1: np.float32 = _fp32(0.9)
    beta2: np.float32 = _fp32(0.99)
    adam_epsilon: np.float32 = _fp32(2.0**-27)
    weight_decay: np.float32 = _fp32(0.0625)
    clip_norm: np.float32 = _fp32(1)
    schedule: str = "cosine"
    warmup_steps: int = 10
    total_steps: int = 200
    ranks: int = 1
    compression: str = "none"
    squinch_variant: str = "floor16"
    error_feedback: bool = False
    seed: int = 0x746F75636873746F

    def validate(self) -> None:
        """What the keys demand of one another. Raises ConfigurationError for the first demand that is not met."""
        self._check_choices()
        self._check_sizes()
        self._check_layers()
        for key in ("rotary_base", "norm_epsilon", "zreg_c", "output_zreg_c", "clamp_kappa", "clamp_limit"):
            self._check_finite(key)
        self._check_flags()
        self._check_integer("distillation_k", 0, self.vocabulary)
        self._check_finite("learning_rate")
        self._check_integer("warmup_steps", 0, 1 << 30)
        self._check_integer("total_steps", 1, 1 << 30)
        self._check_finite("final_fraction")
        self._check_betas()
        for key in ("adam_epsilon", "weight_decay", "clip_norm"):
            self._check_finite(key)
        self._check_integer("ranks", 1, self.batch)

    def _check_choices(self) -> None:
        for key in table().configuration.values():
            value = getattr(self, key.name)
            if key.kind == "choice" and value not in key.choices:
                raise ConfigurationError(key.name, f'is "{value}"; expected {key.expectation}')

    def _check_integer(self, key: str, least: int, most: int, value: int | None = None) -> None:
        value = getattr(self, key) if value is None else value
        if not least <= value <= most:
            raise ConfigurationError(key, f"is {value}; expected {least} to {most}")

    def _check_finite(self, key: str) -> None:
        least, most = FINITE[key]
        value = getattr(self, key)
        if not (np.isfinite(value) and least <= value <= most):
            ends = " to ".join(number_text(np.float32(end)) for end in (least, most))
            raise ConfigurationError(key, f"is {number_text(value)}; expected {ends}")

    def _check_sizes(self) -> None:
        self._check_integer("vocabulary", 2, 1 << 24)
        self._check_integer("width", 1, 1 << 16)
        self._check_integer("layers", 1, 1024)
        self._check_integer("heads", 1, 4096)
        self._check_integer("key_value_heads", 1, self.heads)
        if self.heads % self.key_value_heads:
            message = f"is {self.key_value_heads}, which does not divide heads, {self.heads}"
            raise ConfigurationError("key_value_heads", message)
        self._check_integer("head_dimension", 2, 4096)
        if self.head_dimension % 2:
            raise ConfigurationError("head_dimension", f"is {self.head_dimension}; expected an even number")
        self._check_integer("feed_forward_width", 1, 1 << 20)
        self._check_integer("sequence_length", 1, 1 << 20)
        self._check_integer("batch", 1, 1 << 16)

    def _check_layers(self) -> None:
        self._check_entries("windows")
        for window in self.windows:
            self._check_integer("windows", 0, 1 << 30, window)
        self._check_entries("key_value_source")
        for layer, source in enumerate(self.key_value_source):
            if not 0 <= source <= layer or self.key_value_source[source] != source:
                message = f"gives layer {layer} the source {source}; expected itself or an earlier layer that has its own"
                raise ConfigurationError("key_value_source", message)

    def _check_entries(self, key: str) -> None:
        count = len(getattr(self, key))
        if count not in (0, self.layers):
            message = f"has {count} entries; expected none or one for each of {self.layers} layers"
            raise ConfigurationError(key, message)

    def _check_flags(self) -> None:
        if self.int8 and self.clamp == "none":
            raise ConfigurationError("int8", "is true; expected false where clamp is none")
        if self.error_feedback and self.compression != "squinch":
            message = "is true; expected false where compression is not squinch"
            raise ConfigurationError("error_feedback", message)

    def _check_betas(self) -> None:
        for key in ("beta1", "beta2"):
            if not 0 <= getattr(self, key) < 1:
                found = number_text(getattr(self, key))
                raise ConfigurationError(key, f"is {found}; expected 0 or more and below 1")

    def source(self, layer: int) -> int:
        """The layer whose keys and values a layer uses."""
        return self.key_value_source[layer] if self.key_value_source else layer

    def owns(self, layer: int) -> bool:
        return self.source(layer) == layer

    def window(self, layer: int) -> int:
        return self.windows[layer] if self.windows else 0

    @property
    def combines(self) -> bool:
        """Whether gradients are combined (T5)."""
        return self.ranks > 1 or self.compression != "none"


@dataclass(frozen=True)
class Parameter:
    name: str
    shape: tuple[int, ...]
    fan: int | None  # initial values are normal with deviation 1 / sqrt(fan); None: ones
    decays: bool

    @property
    def count(self) -> int:
        return prod(self.shape)


def parameters(configuration: Configuration) -> list[Parameter]:
    """T1's list."""
    c = configuration
    query, group = c.heads * c.head_dimension, c.key_value_heads * c.head_dimension
    found = [Parameter("embedding", (c.vocabulary, c.width), c.width, True)]
    for layer in range(c.layers):
        prefix = f"layers.{layer}."
        found.append(Parameter(prefix + "attention.norm", (c.width,), None, False))
        found.append(Parameter(prefix + "attention.query", (c.width, query), c.width, True))
        if c.owns(layer):
            found.append(Parameter(prefix + "attention.key", (c.width, group), c.width, True))
            found.append(Parameter(prefix + "attention.value", (c.width, group), c.width, True))
        found.append(Parameter(prefix + "attention.output", (query, c.width), 2 * c.layers * query, True))
        found.append(Parameter(prefix + "mlp.norm", (c.width,), None, False))
        found.append(Parameter(prefix + "mlp.up", (c.width, c.feed_forward_width), c.width, True))
        down = 2 * c.layers * c.feed_forward_width
        found.append(Parameter(prefix + "mlp.down", (c.feed_forward_width, c.width), down, True))
    found.append(Parameter("norm", (c.width,), None, False))
    return found
