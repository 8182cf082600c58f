"""Witnesses for parameters of classes that are not torch's, from use in the source, class, name and shape.

Each takes a place and returns a verdict or None. A name alone decides only for what is spared anyway; a weight
needs a use in the source, a class, or a sibling that speaks for it.
"""

from __future__ import annotations

from torch import Tensor

from torchdecay.plans.roles.place import Place, Verdict
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
TOKEN_HOLDERS = TOKEN_WORDS | word_set("tokenizer")
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
STATE_SPACE_NAMES = word_set(
    "A_log A_logs A_b_log Ds dt_bias log_dt inv_dt log_A_real A_imag time_decay time_first time_faaaa recurrent_param"
)
STATE_SPACE_PARTS = word_set("A B C D dt dt_projs_bias")
MEMORY_WORDS = word_set("mem mems memory memories query queries latent latents")
UNPROVEN = word_set("q k v o kv") | MEMORY_WORDS | SCALE_WORDS
"""What may be anything in a class named for a map, where no use in the source tells."""
PLAIN_USES = word_set("scaled added")
UNTOKENED = word_set("table tables")
SCALE_HINTS = word_set(
    "covar covariance std stddev sigma sigmas mu mus loc rho logstd logvar logvars logsigma variance variances hz "
    "freq freqs frequency frequencies lengthscale lengthscales noise width widths tau beta betas period phase decay "
    "rate logit logits mixing phi"
)
UNBOUND_HINTS = word_set("raw log natural variational unconstrained unnormalized unnorm")
NOISE_WORDS = word_set("sigma sigmas rho logsigma logvar logstd std")
PROMPTERS = word_set("prompter prompt prompts")
FILTERS = word_set("filter filters kernel kernels")
TOKEN_HINTS = MEMORY_WORDS | word_set(
    "seed seeds inducing point points center centers centroid centroids prototype prototypes anchor anchors slot slots "
    "init initial concept concepts probe probes codes"
)
POSITION_HINTS = word_set("ape rpe pe")


def state_space(place: Place) -> Verdict | None:
    """A_log, D, dt_bias and their like: time scales of a recurrence, which zero means nothing to."""
    if place.attribute in STATE_SPACE_NAMES:
        return Verdict("state_space", "", f"{place} is named as in a state-space layer")
    # A and B alone are more often the two factors of a low-rank product.
    marked = _beside(place, "A_log") or _beside(place, "A_logs") or _beside(place, "A", "D")
    if place.attribute in STATE_SPACE_PARTS and marked:
        return Verdict("state_space", "", f"{place} stands beside the A of a state-space layer")
    return None


def norm(place: Place) -> Verdict | None:
    """A gain or bias of a normalization: multiplied after dividing by a deviation, or in a norm's class."""
    uses = place.uses
    if "norm" in uses:
        return Verdict("norm", "", f"{place} goes into a norm function")
    if place.mapping or "lookup" in uses or last(place.attribute) in TOKEN_WORDS:
        return None
    classed = named_for_norm(place.owner_class or place.segment)
    small = place.owner is not None and not place.owner._modules and place.attribute in GAIN_NAMES
    if {"scaled", "normed"} <= uses and (classed or (small and not place.single)):
        return Verdict("norm", "", f"{place} multiplies what the source divides by its deviation")
    if small and place.attribute in ("bias", "beta") and any("normed" in place.uses_of(name) for name in GAIN_NAMES):
        return Verdict("norm", "", f"{place} is added to what the source divides by its deviation")
    if place.vector and not place.single and NORM_WORDS & set(words(place.attribute)):
        return Verdict("norm", "", f"{place} is a vector named for a norm")
    if classed and (place.vector or "scaled" in uses):
        return Verdict("norm", "", f"{place}, a normalization by name, and of shape {place.shape}")
    if place.node is None and place.vector and _beside(place, "running_mean", "running_var"):
        return Verdict("norm", "", f"{place} stands beside running statistics")
    if place.node is None and len(place.shape) == 1 and place.attribute in ("weight", "bias"):
        pair = [place.siblings.get("weight"), place.siblings.get("bias")]
        if all(tensor is not None and tuple(tensor.shape) == place.shape for tensor in pair):
            return Verdict("norm", "", f"{place}: a 1-D weight and bias of one size")
    return None


def named_for_norm(name: str) -> bool:
    """Whether a class or module name is a norm's: "LlamaRMSNorm", "ln_1", not "NormMLP"."""
    found = words(name)
    if not NORM_WORDS & set(found):
        return False
    return found[-1] in NORM_WORDS or not (WEIGHT_CLASS_WORDS | BLOCK_WORDS) & set(found)


def logits(place: Place) -> Verdict | None:
    """Squashed by softmax, sigmoid, softplus or exp before anything else: toward zero lies a uniform mixture."""
    if "logits" in place.uses and not place.mapping:
        return Verdict("scale", "", f"{place} is squashed by softmax, exp or the like: mixing logits")
    found = words(place.attribute)
    scaled = found[-1:] and found[-1] in SCALE_WORDS | SCALE_HINTS
    if (
        found
        and found[0] in UNBOUND_HINTS
        and (place.vector or scaled or not place.mapping)
        and found[-1] not in MAP_NOUNS
    ):
        return Verdict("scale", "", f"{place} is named for a logarithm or what stands behind a constraint")
    return None


def position(place: Place) -> Verdict | None:
    """Position embeddings and relative tables that are plain parameters."""
    if place.attribute in TABLE_NAMES and len(place.shape) > 1 and not place.mapping:
        for holder in (place.owner_class, place.segment):
            if among(POSITION_WORDS, holder) and last(holder) in POSITION_HOLDERS:
                return Verdict("position", "", f"{place} in “{holder}”, named for positions")
    noun = last(place.attribute)
    if noun in MAP_NOUNS | SCALE_WORDS or place.single or (place.mapping and noun not in POSITION_NOUNS):
        return None
    if among(POSITION_WORDS, place.attribute) or place.attribute in ("pe", "attention_biases"):
        return Verdict("position", "", f"{place} is named for positions")
    return None


def token(place: Place) -> Verdict | None:
    """Class, mask, register and other learned tokens that are plain parameters."""
    found, noun = set(words(place.attribute)), last(place.attribute)
    held = place.node is not None and place.attribute in TABLE_NAMES and not among(EMBEDDING_WORDS, place.segment)
    if held and not place.mapping and any(last(one) in TOKEN_HOLDERS for one in (place.owner_class, place.segment)):
        return Verdict("token", "", f"{place}, in what is named for tokens")
    if noun in MAP_NOUNS | BIAS_WORDS | SCALE_WORDS or place.single:
        return None
    if place.mapping and noun not in TOKEN_WORDS | EMBEDDING_WORDS | TOKEN_KINDS:
        return None
    if found & TOKEN_WORDS or (found & TOKEN_KINDS and noun in EMBEDDING_WORDS):
        return Verdict("token", "", f"{place} is named for a learned token")
    joined = bool({"joined", "input"} & place.uses)
    repeated = joined or "expanded" in place.uses
    if found & TOKEN_KINDS and (repeated or (len(place.shape) == 3 and place.shape[0] == 1)):
        return Verdict("token", "", f"{place} is named for learned tokens and shaped or repeated as such")
    if place.mapping or noun in UNTOKENED:
        return None
    if joined and not (place.vector and "scaled" in place.uses):
        return Verdict("token", "", f"{place} is put beside or in the place of the inputs")
    if repeated and not PLAIN_USES & place.uses:
        return Verdict("token", "", f"{place} is repeated along the batch, as an input would be")
    if place.vector and noun in EMBEDDING_WORDS:
        return Verdict("token", "", f"{place} is a single learned vector, named for an embedding")
    return None


def embedding(place: Place) -> Verdict | None:
    """A table of rows that are looked up."""
    if place.vector:
        return None
    if "lookup" in place.uses:
        return Verdict("embedding", "", f"{place} is the table of an embedding lookup")
    if not place.mapping and last(place.attribute) not in MAP_NOUNS | BIAS_WORDS:
        # In a list or dict of parameters it is entries that are chosen.
        if "indexed" in place.uses and place.name.endswith(place.attribute):
            return Verdict("embedding", "", f"{place} is a table of which the inputs choose rows")
        if "compared" in place.uses:
            return Verdict("embedding", "", f"{place} holds points from which distances are taken")
    if last(place.attribute) in EMBEDDING_WORDS:
        return Verdict("embedding", "", f"{place} is named for an embedding")
    if place.attribute not in ("weight", "weights") or len(place.shape) != 2 or place.mapping:
        return None
    if place.owner_class:
        if last(place.owner_class) in EMBEDDING_WORDS:
            return Verdict("embedding", "", f"{place}, an embedding by name")
    elif among(EMBEDDING_WORDS, place.segment) and last(place.segment) in EMBEDDING_NOUNS and not _has_bias(place):
        return Verdict("embedding", "", f"{place}: 2-D, no bias, in a module named for an embedding")
    return None


def bias(place: Place) -> Verdict | None:
    """Called bias, or handed over as one."""
    if "bias" in place.uses:
        return Verdict("bias", "", f"{place} is the bias argument of a linear map")
    if place.attribute == "sinks" and place.vector:
        return Verdict("bias", "", f"{place}: attention sinks, a learned logit for each head")
    found = words(place.attribute)
    if found and (found[-1] in BIAS_WORDS or (found[0] == "bias" and all(len(word) <= 2 for word in found[1:]))):
        return Verdict("bias", "", f"{place} is called a bias")
    if place.vector and "added" in place.uses and not place.mapping and "scaled" not in place.uses:
        return Verdict("bias", "", f"{place} is a vector that is only added")
    return None


def weight(place: Place) -> Verdict | None:
    """An operand of a matrix product or convolution, or a matrix in a class that is named for one."""
    uses = place.uses
    if "conv" in uses and len(place.shape) < 3 and last(place.attribute) in SCALE_HINTS:
        return Verdict("scale", "", f"{place} is named for a scale, and the kernel is a function of it")
    if "conv" in uses:
        return Verdict("weight", "kernel", f"{place} is the weight of a convolution")
    if place.single:
        return None
    if last(place.attribute) in NOISE_WORDS:
        return Verdict("scale", "", f"{place} is named for the size of noise")
    if "matmul" in uses and not (place.vector and PLAIN_USES & uses):
        return Verdict("weight", "matrix", f"{place} is an operand of a matrix product")
    if place.contracted:
        return Verdict("weight", "matrix", f"{place} is multiplied with the inputs and summed over its axis")
    if place.vector and (len(place.shape) != 2 or last(place.attribute) not in MAP_NOUNS):
        return None
    if "filtered" in uses and not place.vector:
        return Verdict("weight", "kernel", f"{place} multiplies a spectrum")
    if place.owner_class:
        noun = among(WEIGHT_CLASS_WORDS, place.owner_class)
        named = last(place.attribute) in WEIGHT_NOUNS and not UNPROVEN & set(words(place.attribute))
        if noun and named and not PLAIN_USES & uses:
            return Verdict("weight", "kernel" if noun.startswith("conv") else "matrix", f"{place}: named for a map")
        return None
    return _weight_in_checkpoint(place)


def scale(place: Place) -> Verdict | None:
    """A factor: layer-scale, logit scale, gate, slope."""
    if place.vector and "scaled" in place.uses:
        return Verdict("scale", "", f"{place} is a factor of a product")
    word = among(SCALE_WORDS, place.attribute)
    if word and (place.vector or "scaled" in place.uses):
        return Verdict("scale", "", f"{place} is named for a factor (“{word}”)")
    return None


def lone_gain(place: Place) -> Verdict | None:
    """The only vector of a small module, still all ones or all zeros: a norm whose source could not be read."""
    module = place.owner
    if module is None or place.attribute not in ("weight", "scale", "gamma", "g", "gain") or len(place.shape) != 1:
        return None
    if module._modules or any(name not in (place.attribute, "bias", "beta") for name in module._parameters):
        return None
    value = _constant(place.tensor)
    if value not in (0.0, 1.0):
        return None
    return Verdict("norm", "", f"{place} is the only vector there and starts as all {'ones' if value else 'zeros'}")


def hint(place: Place) -> Verdict | None:
    """Words that are no proof, but name what zero means nothing to: deviations, frequencies, seeds, memories."""
    found, noun = words(place.attribute), last(place.attribute)
    if place.mapping or not found or place.single or noun in MAP_NOUNS or "weight" in found:
        return None
    if noun in FILTERS and len(place.shape) > 2 and not PLAIN_USES & place.uses:
        return Verdict("weight", "kernel", f"{place} is named for filters, and of shape {place.shape}")
    if noun in SCALE_HINTS or (noun in SCALE_WORDS and not place.vector):
        return Verdict("scale", "", f"{place} is named for a scale or its logarithm")
    if noun in UNTOKENED and "added" in place.uses:
        return Verdict("scale", "", f"{place} is a table that is added to an embedding")
    if POSITION_HINTS & set(found):
        return Verdict("position", "", f"{place} is named for positions")
    if TOKEN_HINTS & set(found) or (place.node is not None and last(place.owner_class) in PROMPTERS):
        return Verdict("token", "", f"{place} is named for learned inputs")
    return None


def factor(place: Place) -> Verdict | None:
    """One of several matrices whose product is handed on: a weight, unless a word says otherwise."""
    if "factor" in place.uses and not place.vector:
        return Verdict("weight", "matrix", f"{place} is a factor of a product of matrices")
    return None


def scalar(place: Place) -> Verdict | None:
    """One number."""
    if place.single:
        return Verdict("scalar", "", f"{place} is a single number")
    return None


def _weight_in_checkpoint(place: Place) -> Verdict | None:
    if len(place.shape) >= 3:
        kind = "matrix" if last(place.attribute) != "weight" else "kernel"
        if last(place.attribute) in WEIGHT_NOUNS:
            return Verdict("weight", kind, f"{place}: {len(place.shape)}-D, from its name and shape only")
        return None
    if place.attribute == "weight" and _has_bias(place):
        return Verdict("weight", "matrix", f"{place}: 2-D with a 1-D bias beside it")
    noun = last(place.segment) if place.attribute == "weight" else last(place.attribute)
    if noun in WEIGHT_NOUNS or "weight" in words(place.attribute)[:-1]:
        return Verdict("weight", "matrix", f"{place}: 2-D and named for a map, from its name and shape only")
    return None


def _has_bias(place: Place) -> bool:
    beside = place.siblings.get("bias")
    return beside is not None and beside.ndim == 1


def _beside(place: Place, *names: str) -> bool:
    return all(name in place.siblings for name in names)


def _constant(tensor: Tensor) -> float | None:
    """The value that every element has; None where they differ or can't be read: on meta, in a shard, traced."""
    if tensor.is_meta or tensor.numel() == 0 or not tensor.is_floating_point() or hasattr(tensor, "full_tensor"):
        return None
    flat = tensor.detach().flatten()
    try:
        return float(flat[0]) if bool((flat == flat[0]).all()) else None
    except RuntimeError:
        return None
