"""The catalog of the monitor's alarms: a stable code for each kind."""

from __future__ import annotations

from torchdecay.findings.rule import read_rules

_TEXT = """\
WD601 error not attached
A plan was made whose decay the optimizer alone can't carry out, and nothing carries it out.
Call td.attach(optimizer, plan) before training.

WD602 error lost
Decay was carried out, and no longer is: deepcopy, pickle and loading leave hooks behind.
Attach the plan again.

WD603 warning differs
The weights that you end up with are not those that were planned.
td.verify(optimizer) measures each group by itself; td.audit looks for the cause.

WD604 error rounded away
The dtype can't hold so small a change: a step rounds back to where it was.
Attach td.decoupled(wd), which pays it with stochastic rounding, or keep float32 weights.

WD605 warning grows
Nothing holds these weights: going on, they end in overflow or in steps too small to matter.
Let them decay, or decay harder, where a norm follows them; else lower the learning rate.

WD606 error not finite
Weights that are NaN or infinite stay so.
Go back to a checkpoint before this step, and look at the learning rate and the loss there.

WD607 warning dominates
The weights follow the decay and not the loss.
Lower the coefficient or the learning rate: their product is the fraction per step.

WD608 warning between steps
A line of the training loop shrinks the weights, beside what is planned.
Take it out, or put it into the plan and weight_decay to 0.

WD609 error no steps
Another optimizer trains: a copy of this one, or one that was built later.
Give td.Monitor the optimizer whose step() is called.

WD610 error no gradients
The optimizer steps weights that the model does not use, or no longer: fully_shard and tensor parallel put others there.
Shard the model first, then build the optimizer from it.
"""

ALARMS = read_rules(_TEXT)
"""For each code its rule; its title is the kind of the alarm."""
CODES = {rule.title: code for code, rule in ALARMS.items()}
"""Kind of alarm → code."""
