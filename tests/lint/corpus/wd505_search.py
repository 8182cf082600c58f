def sort(model):
    decay, rest = [], []
    for name, parameter in model.named_parameters():
        print(f"{name}: {tuple(parameter.shape)}")
    if parameter.ndim > 1:  #! WD505
        decay.append(parameter)
    else:
        rest.append(parameter)
    return decay, rest
# ── mended ──
def first_matrix(model):
    found = []
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            break
    if parameter.ndim > 1:
        found.append(parameter)
    return found
