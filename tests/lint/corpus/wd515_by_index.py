def resume(optimizer, path, weight_decay):
    for index in range(len(optimizer.param_groups)):
        optimizer.param_groups[index]["weight_decay"] = weight_decay  #! WD515
    optimizer.load_state_dict(torch.load(path))


def stages(optimizer, saved, decays):
    for decay in decays:
        optimizer.param_groups[0]["weight_decay"] = decay  #! WD515
        optimizer.load_state_dict(saved)
        run(optimizer)
# ── mended ──
def resume(optimizer, path, weight_decay):
    optimizer.load_state_dict(torch.load(path))
    for index in range(len(optimizer.param_groups)):
        optimizer.param_groups[index]["weight_decay"] = weight_decay


def stages(optimizer, saved, decays):
    for decay in decays:
        optimizer.load_state_dict(saved)
        optimizer.param_groups[0]["weight_decay"] = decay
        run(optimizer)
