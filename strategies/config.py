"""Settings of strategies: frozen dataclasses, checked where they come in.

A field's annotation is its check: `lr: Positive = 0.1` refuses 0, -1, NaN and "fast", each in one line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from ..base.errors import UsageError, unknown

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Divisor = Annotated[float, Field(gt=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Amount = Annotated[int, Field(ge=0, le=10**9)]
Schedule = Literal["constant", "cosine", "step", "plateau"]


@dataclass(frozen=True)
class TrainConfig:
    """What every gradient strategy can be told. A benchmark sets the protocol's fields, a user any of them.

    Attributes:
        lr, momentum, weight_decay, optimizer: "sgd", "adam" or "adamw".
        epochs: passes over each task's training data; the setting may allow only one.
        batch_size: training samples of the current task per step.
        model: name of a backbone; its own options are given as `model.hidden=...`.
        head_lr: of the classifying layer, where it differs from `lr`.
        clip: largest norm of all gradients together; 0 does not clip.
        schedule, drop_at: of the learning rates over the steps of a task: "constant", "cosine", or "step", a tenth
            from the share `drop_at` of the steps on; or "plateau", by the loss on validation data, see `parts.plateau`.
        patience, lr_factor, lr_min: of "plateau": passes without a lower loss after which the rates are divided, by
            what, and below which `lr` the task ends, before its `epochs` are over.
        steps: of each task, instead of `epochs` passes over its data; 0 goes by `epochs`.
        floor: share of the rates at which "cosine" ends.
        warmup: share of a task's steps over which the rates rise linearly to where the schedule takes over.
        label_smoothing: share of a label that is spread evenly over the classes that compete.
        selection: which weights of a task are kept: the "last", those with the lowest loss on validation data
            ("validation"), or with the most successes in its own test ("simulator"; such a run is not ranked), of those
            at the points of a learning curve, or at ten. See `parts.selection`.
        compete: which classes share the softmax in training: as the setting has it at test, or "task", "seen", "all".
    """

    lr: Positive = 0.05
    epochs: Count = 1
    batch_size: Count = 10
    momentum: NonNegative = 0.0
    weight_decay: NonNegative = 0.0
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    model: str = "mlp"
    model_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    compete: Literal["setting", "task", "seen", "all"] = "setting"
    head_lr: Positive | None = None
    clip: NonNegative = 0.0
    schedule: Schedule = "constant"
    drop_at: Share = 0.8
    patience: Count = 6
    lr_factor: Divisor = 2.0
    lr_min: Positive = 1e-5
    steps: Amount = 0
    warmup: Share = 0.0
    label_smoothing: Share = 0.0
    floor: Share = 0.0
    selection: Literal["last", "validation", "simulator"] = "last"


@dataclass(frozen=True)
class WordsConfig(TrainConfig):
    """Where nothing else is said, an image-text model learns a task as on MTIL (Zheng et al., 2023), shorter."""

    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    model: str = "clip-micro"
    lr: Positive = 5e-4
    steps: Amount = 81
    batch_size: Count = 64
    schedule: Schedule = "cosine"
    warmup: Share = 0.1
    label_smoothing: Share = 0.2


def configure(Config: type, settings: Mapping[str, Any], owner: str) -> Any:
    """A config from settings. Unknown names answer with the nearest, wrong values with what is expected.

    `model.hidden=...` goes into the field `model_options` under "hidden".
    """
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if not has(Config, name):
            raise unknown(f"setting of {owner}", name, _fields(Config))
        group, _, option = name.partition(".")
        if option:
            values.setdefault(f"{group}_options", {})[option] = value
        else:
            values[name] = value
    hints = get_type_hints(Config, include_extras=True)
    return Config(**{name: _checked(hints[name], value, f"{owner}: {name}") for name, value in values.items()})


def _checked(hint: Any, value: Any, where: str) -> Any:
    try:
        return TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError as error:
        raise UsageError(f"{where}={value!r}: {error.errors()[0]['msg']}.") from None


def has(Config: type, name: str) -> bool:
    """Whether a config knows a setting, dotted or not."""
    group, _, option = name.partition(".")
    return (f"{group}_options" if option else name) in _fields(Config)


def _fields(Config: type) -> list[str]:
    return [field.name for field in dataclasses.fields(Config)]


def flat(config: Any) -> dict[str, Any]:
    """A config as the record keeps it: plain values, options of a group under their dotted names, as `--set` takes."""
    settings: dict[str, Any] = {}
    for name, value in dataclasses.asdict(config).items():
        if isinstance(value, dict):
            settings.update({f"{name.removesuffix('_options')}.{key}": item for key, item in value.items()})
        else:
            settings[name] = list(value) if isinstance(value, tuple) else value
    return settings
