def restart(opt, wd):
    opt.param_groups[0]["weigth_decay"] = wd  #! WD503
    for group in opt.param_groups[1:]:
        group["lr"] = 0.1
    for group in opt.param_groups:
        group["weight-decay"] = wd  #! WD503
# ── mended ──
def restart(opt, wd):
    opt.param_groups[0]["weight_decay"] = wd
    for group in opt.param_groups:
        group["my_weight_decay"] = wd
        group["weight_decay2"] = wd
