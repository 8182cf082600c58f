import torch


class Trainer:
    def resume(self, path):
        state = torch.load(path, weights_only=True)
        self.optimizer.param_groups[0]["weight_decay"] = self.args.weight_decay  #! WD515
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
# ── mended ──
import torch


class Trainer:
    def resume(self, path):
        state = torch.load(path, weights_only=True)
        self.optimizer.param_groups[0]["weight_decay"] = 0.0
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["weight_decay"] = self.args.weight_decay
