"""What the functions that models call do with a parameter: tables from the last word of what is called to a use."""

from __future__ import annotations

from torchdecay.plans.roles.words import word_set

MATMUL = word_set(
    "matmul mm bmm mv einsum tensordot baddbmm addmm addmv addbmm dot vdot inner outer ger chain_matmul multi_dot "
    "kron contract grouped_mm _grouped_mm cosine_similarity"
)
POSITIONS: dict[str, tuple[str, int, int]] = {
    "linear": ("matmul", 1, 2),
    "bilinear": ("matmul", 2, 3),
    "embedding": ("lookup", 1, -1),
    "embedding_bag": ("lookup", 1, -1),
    "layer_norm": ("norm", 2, 3),
    "rms_norm": ("norm", 2, -1),
    "group_norm": ("norm", 2, 3),
    "batch_norm": ("norm", 3, 4),
    "instance_norm": ("norm", 3, 4),
    "prelu": ("scaled", 1, -1),
    **{f"conv{transpose}{n}d": ("conv", 1, 2) for transpose in ("", "_transpose") for n in (1, 2, 3)},
}
"""Function → the use of its weight, and where weight and bias stand."""
NORMALIZING = word_set("std var var_mean std_mean norm vector_norm rms normalize")
JOINING = word_set("cat concat concatenate stack hstack vstack column_stack row_stack dstack")
OPERANDS = {
    **dict.fromkeys(MATMUL, ("matmul", "matmul")),
    **dict.fromkeys(word_set("addmm addmv baddbmm addbmm"), ("bias", "matmul")),
    **dict.fromkeys(word_set("mul mul_ multiply"), ("scaled", "scaled")),
    **dict.fromkeys(word_set("div div_ divide true_divide pow"), ("", "scaled")),
    **dict.fromkeys(word_set("lerp lerp_"), ("", "scaled")),
    **dict.fromkeys(word_set("add add_ sub sub_ subtract"), ("added", "added")),
    **dict.fromkeys(word_set("addcmul addcmul_"), ("added", "scaled")),
    **dict.fromkeys(word_set("expand expand_as repeat broadcast_to tile repeat_interleave"), ("expanded", "")),
    **dict.fromkeys(word_set("where masked_fill masked_scatter index_put"), ("joined", "joined")),
    "cdist": ("compared", "compared"),
}
"""What is called → the use of its first operand, and that of the others."""
PRODUCTS = word_set("mul mul_ multiply")
SUMS = word_set("sum nansum mean")
SQUASHING = word_set(
    "softmax log_softmax softmin sigmoid logsigmoid log_sigmoid softplus exp exp2 expm1 exp_ sigmoid_ softmax_ expit "
    "gumbel_softmax sparsemax entmax entmax15 logsoftmax hardsigmoid hard_sigmoid logsumexp"
)
"""What takes logarithms, logits and the like to shares, probabilities or positive numbers; also as a module."""
VIEWS = word_set(
    "transpose permute reshape view view_as unsqueeze squeeze flatten movedim swapaxes t rearrange repeat expand "
    "expand_as broadcast_to tile to type_as cast float half bfloat16 double contiguous clone detach narrow select "
    "chunk split unbind index_select gather take_along_dim interpolate pad roll flip tensor_split unflatten adjoint "
    "swapdims moveaxis requires_grad_ type cpu cuda astype resample_abs_pos_embed triu tril"
)
"""What gives the first operand back in another form, whatever else is handed over."""
CASTS = word_set("to type_as float half bfloat16 double contiguous clone detach type cpu cuda dropout identity")
SIZES = word_set(
    "size dim numel len new_zeros new_ones new_empty new_full new_tensor zeros ones empty full eye arange zeros_like "
    "ones_like empty_like full_like rand_like randn_like rand randn linspace range isinstance hasattr element_size "
    "stride get_default_dtype ndimension triu_indices tril_indices meshgrid"
)
"""What gives numbers that no data of the model has entered: sizes, constants, noise."""
GROWING = word_set("append extend insert add appendleft")
"""What puts something into a list."""
SIZE_ATTRIBUTES = word_set("shape dtype device ndim requires_grad layout is_cuda training in_features out_features")
TENSOR_ATTRIBUTES = word_set("T mT H mH data real imag grad")
INPUTS = word_set("query key value x input inputs tgt src target memory hidden_states inputs_embeds")
"""Arguments under which a module takes what it transforms."""
KERNELS = {
    "norm": word_set("norm layernorm rmsnorm batchnorm groupnorm"),
    "conv": word_set("conv conv1d conv2d conv3d convolution"),
    "matmul": word_set("linear matmul mm gemm einsum bilinear contract contraction"),
}
"""Words in the name of a function that can't be read, and what it does then with the tensors that it is handed."""
