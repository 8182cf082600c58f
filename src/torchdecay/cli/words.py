"""The library's messages in the words of the command line: what Python is to be given becomes an option."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torchdecay.errors import DecayError, TorchdecayError, UnitError

_PYTHON_ONLY = re.compile(
    r" \(Store\(path, resume=True\)\)|, or say optional=True"
    r"|, or give optional=True to the rule|, or give both labels of their own: \{.*?\}"
    r"|,? \(?or run=td\.Run\(lr=\.\.\.\)(?:, or optimizer=)?\)?(?=\))?|, or run=(?=\))| or your torch optimizer"
    r"|, of type str(?=\.)|, or give a function: lambda value: [^()]*\([^()]*\)"
)


def in_options(text: str, options: Mapping[str, str]) -> str:
    """A message with `lr=0.1` as `--lr 0.1`, where the command has that option, by keyword of Python.

    Example:
        >>> in_options("Write seeds=3 or seeds=[0, 1, 2].", {"seeds": "--seeds"})
        'Write --seeds 3 or --seeds 0,1,2.'
        >>> in_options("Write td.Run(lr=...).", {"lr": "--lr"})
        'Write --lr NUMBER.'
        >>> in_options("Give width=(old, new).", {"width": "--width"})
        'Give --width old,new.'
        >>> in_options("Write 'lr=(.+)', a group.", {"lr": "--lr"})
        "Write 'lr=(.+)', a group."
    """
    # What stands in quotes was typed, or is to be: a pattern say. The quotes of an argument's value are Python's.
    parts = re.split(r"""(?<![\w=])('[^'\n]*'|"[^"\n]*")(?!\w)""", text)
    quoted = dict(enumerate(parts[1::2]))
    text = "".join(f"\0{place // 2}\0" if place % 2 else part for place, part in enumerate(parts))
    text = _in_options(text, options)
    return re.sub("\0(\\d+)\0", lambda place: quoted[int(place[1])], text)


def _in_options(text: str, options: Mapping[str, str]) -> str:
    text = _PYTHON_ONLY.sub("", text)
    text = re.sub(r"td\.Run\(\.\.\.\)", "td.Run(lr=..., steps=...)", text)
    text = re.sub(r"td\.Run\(\.\.\., (.*?)\)", r"td.Run(\1, ...)", text)
    # A run is options of its own where the command has them, else one option of parts with commas between.
    text = re.sub(r"(\w+=|value, )?\btd\.Run\(([^()]*)\)", lambda run: _run(run[1] or "", run[2], options), text)
    text = re.sub(r"\b(\w+)=[(\[]([^()\[\]]*)[)\]]", lambda some: f"{some[1]}={some[2].replace(', ', ',')}", text)
    value = r"""\"[^\"]*\"|'[^']*'|\.\.\.|[\w.+-](?:[^\s;)\"']*[^\s;).,:\"'])?"""
    text = re.sub(r"\b(?:Pass|Give) model=\.\.\.", "Let the function return (optimizer, model)", text)
    text = re.sub(r"(?<![-\w.,(])model=(?=[,;]|\.(?!\.)|$)", "a model", text)
    # What is to be written into a project stays Python.
    whole = r"torchdecay(?:\.\w+)+\([^()]*\)"
    return re.sub(rf"{whole}|(?<![-\w.,])(\w+)=({value})?", lambda told: _option(told, options), text)


def _run(before: str, parts: str, options: Mapping[str, str]) -> str:
    alone = before.startswith("value") or before.rstrip("=") in options or parts.partition("=")[0] not in options
    # A run that is an argument of its own name needs no name where its parts are options.
    return f"{before}{parts.replace(', ', ',')}" if alone else parts.replace(", ", " ")


def _option(told: re.Match[str], options: Mapping[str, str]) -> str:
    if told[1] not in options:
        return told[0]
    value = (told[2] or "").strip("\"'")
    return f"{options[told[1]]} {'NUMBER' if value == '...' else value.removesuffix('True')}".rstrip()


def told_in_options(error: TorchdecayError, options: Mapping[str, str]) -> TorchdecayError:
    """The same error for whoever typed a command; what quotes a user's own code stays as it is."""
    what = in_options(error.what, options) if isinstance(error, (UnitError, DecayError)) else error.what
    told = type(error)(what, in_options(error.why, options), in_options(error.fix, options))
    told.__cause__ = error.__cause__
    return told
