"""Names cut into whole words, so that "norm" is found in "q_norm" and not in "normal_proj"."""

from __future__ import annotations

import re
from functools import lru_cache

_WORD = re.compile(r"\d+[dD]?(?![a-z])|[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")


@lru_cache(maxsize=1 << 16)
def words(text: str) -> tuple[str, ...]:
    """The words of a name in lower case, numbers left out.

    Example:
        >>> words("LlamaRMSNorm"), words("ln_1"), words("in_proj_bias"), words("BatchNorm2d")
        (('llama', 'rms', 'norm'), ('ln',), ('in', 'proj', 'bias'), ('batch', 'norm'))
    """
    return tuple(word.lower() for word in _WORD.findall(text) if not word[0].isdigit())


def word_set(text: str) -> frozenset[str]:
    """The words of a text with spaces, as a set."""
    return frozenset(text.split())


def among(known: frozenset[str], *texts: str) -> str:
    """The first word of the texts that is one of `known`, or an empty string."""
    for text in texts:
        for word in words(text):
            if word in known:
                return word
    return ""


def last(text: str) -> str:
    """The last word, the noun of an English name ("norm_mlp" is an MLP); "parameter" is none."""
    found = [word for word in words(text) if word not in ("parameter", "parameters", "param", "params")]
    return found[-1] if found else ""
