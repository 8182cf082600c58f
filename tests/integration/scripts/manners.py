"""Tells what a script can see of how it was started, and ends as its first argument says."""

import os
import signal
import sys
import warnings

import torch

how = sys.argv.pop(1)
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)


def step():
    model(torch.ones(3, 4)).sum().backward()
    optimizer.step()


def closure():
    raise ValueError("in the closure")


step()
for _ in range(2):
    warnings.warn("once for each place", stacklevel=1)
    step()
print(sys.argv, __name__, os.path.basename(__file__), sys.path, sys.flags.optimize, sys.stdin.read())
print("sitecustomize:", getattr(sys.modules.get("sitecustomize"), "MINE", None), sys.warnoptions, __debug__)
print(os.getcwd(), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), sys.excepthook.__module__)
sys.stdout.flush()
sys.argv[:] = ["nothing"]
os.chdir("/")
if how == "closure":
    # The step has a record where the monitor looks at every one.
    optimizer.step(closure)
if how == "exit":
    sys.exit(3)
if how == "_exit":
    os._exit(5)
if how in ("SIGTERM", "SIGINT"):
    os.kill(os.getpid(), getattr(signal, how))
