"""The random number generators of torch, Python and numpy, to be put back."""

from __future__ import annotations

import random
import sys

import torch


class Random:
    """The random number generators that a step may draw from."""

    def __init__(self, devices: set[torch.device]) -> None:
        self._cpu = torch.get_rng_state()
        self._devices = [
            (module, device, module.get_rng_state(device))
            for device in devices
            if device.type != "cpu" and hasattr(module := torch.get_device_module(device), "get_rng_state")
        ]
        self._python = random.getstate()
        self._numpy = sys.modules.get("numpy.random")
        self._numpy_state = self._numpy.get_state() if self._numpy is not None else None

    def rewind(self) -> None:
        """All of them go on from where they were."""
        torch.set_rng_state(self._cpu)
        for module, device, state in self._devices:
            module.set_rng_state(state, device)
        random.setstate(self._python)
        if self._numpy is not None:
            self._numpy.set_state(self._numpy_state)
