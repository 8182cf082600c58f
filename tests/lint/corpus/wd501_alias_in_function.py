def train(policy, critic):
    import torch.optim as opt

    actor_opt = opt.AdamW(policy.parameters(), 3e-4)  #! WD501
    critic_opt = opt.AdamW([*critic.parameters()], 3e-4, weight_decay=0)
    return actor_opt, critic_opt
# ── mended ──
def train(policy, critic, opt):
    actor_opt = opt.AdamW(policy.parameters(), 3e-4)
    critic_opt = opt.AdamW([*critic.parameters()], 3e-4, weight_decay=0)
    return actor_opt, critic_opt
