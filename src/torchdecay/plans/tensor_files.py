"""Names and tensors from a file; no code in it is run."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchdecay.errors import LoadError, need
from torchdecay.plans.references import file_sha256
from torchdecay.text import listed, repr_quoted

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ("state_dict", "model_state_dict", "model", "module", "weights")
"""Where training scripts put the weights among the rest of a checkpoint."""
SLACK = 2**24
"""By how many bytes an archive may grow: some are packed again, and small ones harm nobody."""


def read_tensors(path: Path, *, sha256: str = "", mapped: bool = False) -> Mapping[str, Tensor]:
    """Name → tensor of a safetensors file, or of one that torch.save wrote.

    Args:
        path: of the file.
        sha256: of its content, in hex; "" for any content.
        mapped: whether tensors stay in the file, so that only what is looked at is read.

    Raises:
        LoadError: not there, another file than that of the hash, truncated, no checkpoint, larger than it looks, asks
            to run code, or without tensors.
        MissingExtra: safetensors is not installed.
    """
    if not path.is_file():
        raise LoadError(f'there is no file "{path}".', fix="Give a checkpoint, or module:name for a model.")
    if sha256 and file_sha256(path) != sha256:
        raise LoadError(
            f'the file "{path}" is not the one that the plan was made with: its SHA-256 differs.',
            fix="Restore the file, or make the plan again.",
        )
    return _weights(path, _safetensors(path) if path.suffix == ".safetensors" else _torch(path, mapped))


def _safetensors(path: Path) -> Any:
    torch_part = need("safetensors.torch", "transformers")
    try:
        return torch_part.load_file(path)
    except Exception as error:
        raise _unreadable(path, error) from error


def _torch(path: Path, mapped: bool) -> Any:
    import torch

    is_zip = zipfile.is_zipfile(path)
    try:
        if is_zip:
            _refuse_bomb(path)
        with warnings.catch_warnings():
            # What torch has to say about old files concerns nobody who only reads names and shapes.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and is_zip)
    except LoadError:
        raise
    except Exception as error:
        # torch raises a dozen types here.
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked is None:
            raise _unreadable(path, error) from error
        raise LoadError(
            f"{path} holds more than tensors: to read it, {asked[1]} would be called.",
            "A checkpoint from elsewhere could run any code that way; it was not run.",
            "Save model.state_dict() alone, or write it as safetensors.",
        ) from error


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive whose entries say that they are larger than the file: torch.save compresses nothing."""
    with zipfile.ZipFile(path) as archive:
        stated, size = sum(entry.file_size for entry in archive.infolist()), path.stat().st_size
    if stated > size + SLACK:
        raise LoadError(
            f"{path} would grow from {size:,} to {stated:,} bytes when it is read.",
            "torch.save compresses nothing, so that no checkpoint of its does; this fills the memory.",
            "Unpack it where there is room, and save model.state_dict() again.",
        )


def _unreadable(path: Path, error: Exception) -> LoadError:
    lines = [line for line in str(error).splitlines() if line and not line.startswith("Weights only load failed")]
    said = f" ({type(error).__name__}: {lines[0][:100]})" if len(lines) == 1 else ""
    return LoadError(
        f"{path} is no checkpoint, or only a part of one{said}.",
        fix="Give a safetensors file, or what torch.save(model.state_dict(), path) wrote.",
    )


def _weights(path: Path, found: Any) -> Mapping[str, Tensor]:
    """The part of a checkpoint that holds the weights."""
    from torch import Tensor

    for part in (None, *PARTS):
        inside = found if part is None else found.get(part) if isinstance(found, Mapping) else None
        if (
            isinstance(inside, Mapping)
            and inside
            and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in inside.items())
        ):
            return inside
    keys = [str(key) for key in found] if isinstance(found, Mapping) else []
    holds = f"the keys {listed(keys)}" if keys else f"something of type {type(found).__name__}"
    raise LoadError(
        f"{path} holds {holds}, and no weights by name.",
        f"Looked for them at the top and under {', '.join(map(repr_quoted, PARTS))}.",
        "Save model.state_dict() by itself.",
    )
