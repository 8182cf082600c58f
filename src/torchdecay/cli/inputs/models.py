"""A model from what people type: `module:name`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from torchdecay.errors import TaskError
from torchdecay.text import an

if TYPE_CHECKING:
    from torch import nn

FAMILIES = (
    "MODEL_FOR_MASKED_LM_MAPPING",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "MODEL_FOR_CAUSAL_LM_MAPPING",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING",
    "MODEL_MAPPING",
)
"""Where transformers keeps which model belongs to a configuration, models with a head first."""


def load_model(target: str) -> nn.Module:
    """The model that `module:name` is or makes.

    The name may be a model, a class or function that makes one without arguments, or a configuration or model class
    of transformers, which is built without memory for its weights.
    """
    from torch import nn

    from torchdecay.lab.tasks.custom import call, load

    found = load(target, "model")
    if isinstance(found, nn.Module):
        return found
    if _is_of_transformers(found):
        made = call(lambda: _from_transformers(found), target)
    else:
        made = call(found, target) if callable(found) else found
    if not isinstance(made, nn.Module):
        raise TaskError(
            f"{target} gives {an(type(made).__name__)}, not a model.",
            fix="Name a torch.nn.Module, a function that returns one, or a configuration class of transformers.",
        )
    return made


def _is_of_transformers(found: Any) -> bool:
    transformers = sys.modules.get("transformers")
    if transformers is None or not isinstance(found, type):
        return False
    return issubclass(found, (transformers.PretrainedConfig, transformers.PreTrainedModel))


def _from_transformers(found: Any) -> Any:
    import torch
    import transformers

    with torch.device("meta"):
        if issubclass(found, transformers.PreTrainedModel):
            return found(found.config_class())
        config = found()
        for family in FAMILIES:
            models = getattr(transformers, family)
            if found in models:
                made: Any = models[found]
                return (made[0] if isinstance(made, tuple) else made)(config)
    raise TypeError(f"transformers has no model for {found.__name__}")
