"""Witnesses for parameters of classes that are not torch's, from use in the source, class, name and shape.

Each takes a site and returns a verdict or None. A name alone decides only for what is spared anyway; a weight
needs a use in the source, a class, or a sibling that speaks for it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from torch import Tensor

from torchdecay.plans.per_class import per_class
from torchdecay.plans.roles.place import Site, Verdict
from torchdecay.plans.roles.torch_modules import POSITION_WORDS
from torchdecay.plans.roles.words import among, last, word_set, words

NORM_WORDS = word_set("norm norms layernorm layernorms rmsnorm batchnorm groupnorm grn ln bn gn rms")
GAIN_NAMES = word_set("weight scale gamma g gain alpha beta bias")
WEIGHT_CLASS_WORDS = word_set(
    "linear linears dense conv convolution mlp ffn feedforward attention attn proj projection router expert experts"
)
WEIGHT_NOUNS = word_set(
    "weight weights kernel matrix w proj projection linear lin dense fc head classifier router gate up down "
    "in out query key value q k v o qkv kv wq wk wv wo mlp attn conv ih hh"
)
BLOCK_WORDS = word_set("free block net network model stage encoder decoder head")
EMBEDDING_WORDS = word_set("embed embeds embedding embeddings emb embs wte codebook codebooks codevectors vocab")
EMBEDDING_NOUNS = EMBEDDING_WORDS | word_set("token tokens in words")
TOKEN_WORDS = word_set("token tokens prompt prompts latent latents newline separator")
TOKEN_KINDS = word_set("cls class mask masked reg register registers distillation dist sep pad query queries probe")
TABLE_NAMES = word_set("weight weights embedding embeddings embed table")
POSITION_HOLDERS = EMBEDDING_WORDS | word_set("encoding encodings position positions table bias wpe")
POSITION_NOUNS = POSITION_WORDS | POSITION_HOLDERS | word_set("enc tables biases h w u v k q x y")
MAP_NOUNS = word_set("weight weights proj projection kernel matrix linear lin dense mlp fc net head")
BIAS_WORDS = word_set("bias biases shift offset")
SCALE_WORDS = word_set(
    "scale scales gain gains gamma gammas lambda lambdas alpha alphas temperature temp multiplier "
    "factor scaling const gate gates gating slope slopes layerscale ls g"
)
ADAPTER_SCALES = SCALE_WORDS | word_set("l s e sigma magnitude")
STATE_SPACE_NAMES = word_set(
    "A_log A_logs A_b_log Ds dt_bias log_dt inv_dt log_A_real A_imag time_decay time_first time_faaaa recurrent_param"
)
STATE_SPACE_PARTS = word_set("A B C D dt dt_projs_bias")
LORA = re.compile(r"lora(_embedding)?_[aAbBE]|lora_(up|down)")


def state_space(site: Site) -> Verdict | None:
    """A_log, D, dt_bias and their like: time scales of a recurrence, which zero means nothing to."""
    if site.attribute in STATE_SPACE_NAMES:
        return Verdict("state_space", "", f"{site} is named as in a state-space layer")
    # A and B alone are more often the two factors of a low-rank product.
    marked = _beside(site, "A_log") or _beside(site, "A_logs") or _beside(site, "A", "D")
    if site.attribute in STATE_SPACE_PARTS and marked:
        return Verdict("state_space", "", f"{site} stands beside the A of a state-space layer")
    return None


def norm(site: Site) -> Verdict | None:
    """A gain or bias of a normalization: multiplied after dividing by a deviation, or in a norm's class."""
    uses = site.uses
    if "norm" in uses:
        return Verdict("norm", "", f"{site} goes into a norm function")
    if "matmul" in uses or "lookup" in uses or last(site.attribute) in TOKEN_WORDS:
        return None
    classed = _named_for_norm(site.owner_class or site.segment)
    small = site.owner is not None and not site.owner._modules and site.attribute in GAIN_NAMES
    if {"scaled", "normed"} <= uses and (classed or (small and not site.single)):
        return Verdict("norm", "", f"{site} multiplies what the source divides by its deviation")
    if small and site.attribute in ("bias", "beta") and any("normed" in site.uses_of(name) for name in GAIN_NAMES):
        return Verdict("norm", "", f"{site} is added to what the source divides by its deviation")
    if site.vector and not site.single and NORM_WORDS & set(words(site.attribute)):
        return Verdict("norm", "", f"{site} is a vector named for a norm")
    if classed and (site.vector or "scaled" in uses):
        return Verdict("norm", "", f"{site}, a normalization by name, and of shape {site.shape}")
    if site.place is None and site.vector and _beside(site, "running_mean", "running_var"):
        return Verdict("norm", "", f"{site} stands beside running statistics")
    if site.place is None and len(site.shape) == 1 and site.attribute in ("weight", "bias"):
        pair = [site.siblings.get("weight"), site.siblings.get("bias")]
        if all(tensor is not None and tuple(tensor.shape) == site.shape for tensor in pair):
            return Verdict("norm", "", f"{site}: a 1-D weight and bias of one size")
    return None


def _named_for_norm(name: str) -> bool:
    """Whether a class or module name is a norm's: "LlamaRMSNorm", "ln_1", not "NormMLP"."""
    found = words(name)
    if not NORM_WORDS & set(found):
        return False
    return found[-1] in NORM_WORDS or not (WEIGHT_CLASS_WORDS | BLOCK_WORDS) & set(found)


def position(site: Site) -> Verdict | None:
    """Position embeddings and relative tables that are plain parameters."""
    if site.attribute in TABLE_NAMES and len(site.shape) > 1 and "matmul" not in site.uses:
        for holder in (site.owner_class, site.segment):
            if among(POSITION_WORDS, holder) and last(holder) in POSITION_HOLDERS:
                return Verdict("position", "", f"{site} in “{holder}”, named for positions")
    noun = last(site.attribute)
    if noun in MAP_NOUNS | SCALE_WORDS or site.single or ("matmul" in site.uses and noun not in POSITION_NOUNS):
        return None
    if among(POSITION_WORDS, site.attribute) or site.attribute in ("pe", "attention_biases"):
        return Verdict("position", "", f"{site} is named for positions")
    return None


def token(site: Site) -> Verdict | None:
    """Class, mask, register and other learned tokens that are plain parameters."""
    found, noun = set(words(site.attribute)), last(site.attribute)
    if noun in MAP_NOUNS | BIAS_WORDS | SCALE_WORDS or site.single:
        return None
    if "matmul" in site.uses and noun not in TOKEN_WORDS | EMBEDDING_WORDS | TOKEN_KINDS:
        return None
    if found & TOKEN_WORDS or (found & TOKEN_KINDS and noun in EMBEDDING_WORDS):
        return Verdict("token", "", f"{site} is named for a learned token")
    repeated = bool({"expanded", "joined"} & site.uses)
    if found & TOKEN_KINDS and (repeated or (len(site.shape) == 3 and site.shape[0] == 1)):
        return Verdict("token", "", f"{site} is named for learned tokens and shaped or repeated as such")
    if repeated and site.vector and not {"scaled", "added", "matmul"} & site.uses:
        return Verdict("token", "", f"{site} is a vector put beside the inputs")
    if site.vector and noun in EMBEDDING_WORDS:
        return Verdict("token", "", f"{site} is a single learned vector, named for an embedding")
    return None


def embedding(site: Site) -> Verdict | None:
    """A table of rows that are looked up."""
    if site.vector:
        return None
    if "lookup" in site.uses:
        return Verdict("embedding", "", f"{site} is the table of an embedding lookup")
    if last(site.attribute) in EMBEDDING_WORDS:
        return Verdict("embedding", "", f"{site} is named for an embedding")
    if site.attribute not in ("weight", "weights") or len(site.shape) != 2 or "matmul" in site.uses:
        return None
    if site.owner_class:
        if last(site.owner_class) in EMBEDDING_WORDS:
            return Verdict("embedding", "", f"{site}, an embedding by name")
    elif among(EMBEDDING_WORDS, site.segment) and last(site.segment) in EMBEDDING_NOUNS and not _has_bias(site):
        return Verdict("embedding", "", f"{site}: 2-D, no bias, in a module named for an embedding")
    return None


def bias(site: Site) -> Verdict | None:
    """Called bias, or handed over as one."""
    if "bias" in site.uses:
        return Verdict("bias", "", f"{site} is the bias argument of a linear map")
    if site.attribute == "sinks" and site.vector:
        return Verdict("bias", "", f"{site}: attention sinks, a learned logit for each head")
    found = words(site.attribute)
    if found and (found[-1] in BIAS_WORDS or (found[0] == "bias" and all(len(word) <= 2 for word in found[1:]))):
        return Verdict("bias", "", f"{site} is called a bias")
    if site.vector and "added" in site.uses and not {"scaled", "matmul", "conv"} & site.uses:
        return Verdict("bias", "", f"{site} is a vector that is only added")
    return None


def weight(site: Site) -> Verdict | None:
    """An operand of a matrix product or convolution, or a matrix in a class that is named for one."""
    uses = site.uses
    if "conv" in uses:
        return Verdict("weight", "kernel", f"{site} is the weight of a convolution")
    if "matmul" in uses and not (site.vector and {"scaled", "added"} & uses) and not site.single:
        return Verdict("weight", "matrix", f"{site} is an operand of a matrix product")
    if site.vector and len(site.shape) < 2:
        return None
    if site.owner_class:
        noun = among(WEIGHT_CLASS_WORDS, site.owner_class)
        if noun and not {"scaled", "added"} & uses and last(site.attribute) in WEIGHT_NOUNS:
            return Verdict("weight", "kernel" if noun.startswith("conv") else "matrix", f"{site}: named for a map")
        return None
    return _weight_in_checkpoint(site)


def scale(site: Site) -> Verdict | None:
    """A factor: layer-scale, logit scale, gate, slope."""
    if site.vector and "scaled" in site.uses:
        return Verdict("scale", "", f"{site} is a factor of a product")
    word = among(SCALE_WORDS, site.attribute)
    if word and (site.vector or "scaled" in site.uses):
        return Verdict("scale", "", f"{site} is named for a factor (“{word}”)")
    return None


def lone_gain(site: Site) -> Verdict | None:
    """The only vector of a small module, still all ones or all zeros: a norm whose source could not be read."""
    module = site.owner
    if module is None or site.attribute not in ("weight", "scale", "gamma", "g", "gain") or len(site.shape) != 1:
        return None
    if module._modules or any(name not in (site.attribute, "bias", "beta") for name in module._parameters):
        return None
    value = _constant(site.tensor)
    if value not in (0.0, 1.0):
        return None
    return Verdict("norm", "", f"{site} is the only vector there and starts as all {'ones' if value else 'zeros'}")


def scalar(site: Site) -> Verdict | None:
    """One number."""
    if site.single:
        return Verdict("scalar", "", f"{site} is a single number")
    return None


def refined_kind(site: Site, kind: str) -> str:
    """The kind of a weight in the light of what stands above it: adapter and expert say more than matrix."""
    above = {_kind_of_name(name) for name in (*site.segments, site.owner_class) if not name.isdigit()}
    if "adapter" in above or _kind_of_name(site.attribute) == "adapter" or in_peft_layer(site):
        return "adapter"
    if "named adapter" in above and len(site.shape) == 2:
        return "adapter"
    if "expert" in above:
        return "expert"
    found = words(site.attribute)
    hidden_to_hidden = "hh" in found or (found[:1] == ("recurrent",) and found[1:] in (("kernel",), ("weight",)))
    return "recurrent" if hidden_to_hidden else kind


@lru_cache(maxsize=1 << 16)
def _kind_of_name(name: str) -> str:
    if LORA.fullmatch(name):
        return "adapter"
    found = words(name)
    if found and found[-1] in ("expert", "experts") and "shared" not in found:
        return "expert"
    return "named adapter" if {"adapter", "adapters"} & set(found) else ""


def in_peft_layer(site: Site) -> str:
    """The name under which a PEFT layer holds this parameter as its adapter, or an empty string."""
    place, below = site.place, site.attribute
    while place is not None:
        if below in _adapter_names(type(place.module)):
            return below
        below, place = place.segment, place.parent
    return ""


@per_class
def _adapter_names(kind: type) -> tuple[str, ...]:
    """The attributes in which a layer class of PEFT holds its adapters; none for other classes."""
    layer = any(base.__name__ == "BaseTunerLayer" for base in kind.__mro__)
    return tuple(getattr(kind, "adapter_layer_names", ())) if layer else ()


def adapter(site: Site) -> Verdict | None:
    """A plain parameter of a low-rank adapter: its matrices are weights, DoRA's and IA3's vectors scales."""
    if len(site.shape) > 1 and "adapter" in map(_kind_of_name, (*site.segments, site.attribute)):
        return Verdict("weight", "adapter", f"{site} is named as a LoRA matrix")
    held = in_peft_layer(site)
    if "lora_magnitude_vector" in site.segments:
        return Verdict("scale", "", "the length of each row in DoRA")
    if not held or last(held) in BIAS_WORDS:
        return None
    if "tokens" in words(held):
        return Verdict("embedding", "", f"rows that PEFT trains beside an embedding ({held})")
    if not site.vector or (len(site.shape) > 1 and last(held) in ("a", "b")):
        return Verdict("weight", "adapter", f"{site} belongs to a PEFT adapter ({held})")
    if among(ADAPTER_SCALES, held):
        return Verdict("scale", "", f"a vector that a PEFT adapter multiplies by ({held})")
    return Verdict("unknown", "", f"a vector of a PEFT adapter ({held}) of which nothing more is known")


def _weight_in_checkpoint(site: Site) -> Verdict | None:
    if len(site.shape) >= 3:
        kind = "matrix" if last(site.attribute) != "weight" else "kernel"
        if last(site.attribute) in WEIGHT_NOUNS:
            return Verdict("weight", kind, f"{site}: {len(site.shape)}-D, from its name and shape only")
        return None
    if site.attribute == "weight" and _has_bias(site):
        return Verdict("weight", "matrix", f"{site}: 2-D with a 1-D bias beside it")
    noun = last(site.segment) if site.attribute == "weight" else last(site.attribute)
    if noun in WEIGHT_NOUNS or "weight" in words(site.attribute)[:-1]:
        return Verdict("weight", "matrix", f"{site}: 2-D and named for a map, from its name and shape only")
    return None


def _has_bias(site: Site) -> bool:
    beside = site.siblings.get("bias")
    return beside is not None and beside.ndim == 1


def _beside(site: Site, *names: str) -> bool:
    return all(name in site.siblings for name in names)


def _constant(tensor: Tensor) -> float | None:
    """The value that every element has; None where they differ or can't be read: on meta, in a shard, traced."""
    if tensor.is_meta or tensor.numel() == 0 or not tensor.is_floating_point() or hasattr(tensor, "full_tensor"):
        return None
    flat = tensor.detach().flatten()
    try:
        return float(flat[0]) if bool((flat == flat[0]).all()) else None
    except RuntimeError:
        return None
