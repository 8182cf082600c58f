def restart(opt, state, wd):
    for i, group in enumerate(opt.param_groups):
        group["lr"] = 0.1
    for g in opt.param_groups:
        g["weight_decay"] = wd if g["weight_decay"] > 0 else 0.0  #! WD515
    if state is not None:
        opt.load_state_dict(state)
# ── mended ──
def restart(opt, other, state, wd):
    for g in opt.param_groups:
        g["weight_decay"] = wd if g["weight_decay"] > 0 else 0.0
    if state is not None:
        other.load_state_dict(state)
