"""The catalog of everything that `audit` can find."""

from __future__ import annotations

from torchdecay.findings.rule import read_rules

_TEXT = """\
WD101 warning bias, norm or scale decays
Shrinking them weakens the layer and does not reduce overfitting; some models exempt them via no_weight_decay().
Build the groups with td.param_groups(model, wd), which spares them.

WD102 info embedding, position, token or state-space parameter decays
Rows that a batch does not use shrink all the same; A_log and D of a state-space model mean something as they are.
Spare them: td.param_groups(model, wd), or a rule of your own if you mean it.

WD103 info weight does not decay
Similar weights in this model decay; this one does not.
If that is not meant, look at the rule or skip list that spares it.

WD104 error trainable parameter in no group
It requires a gradient but no optimizer moves it.
Give it to an optimizer, or freeze it with requires_grad_(False).

WD105 error parameter of the optimizer is not in the model
It moves nothing of this model: where the model's own are missing, it was re-created, or FSDP2 replaced them.
Build the optimizer after the model is complete and wrapped.

WD106 error parameter twice in the optimizers
torch only warns; it is updated and decays twice per step.
Give each parameter to one group of one optimizer.

WD107 warning tied weight decays though one of its uses is spared
It is one tensor: an output layer tied to an embedding shrinks the embedding.
Spare it, or accept it for both uses with an explicit rule.

WD108 warning frozen, but still moving
It is frozen but still holds an old .grad, so the optimizer keeps updating and decaying it.
Set p.grad = None when you freeze it, or take it out of the optimizer.

WD109 info role unknown
What the parameter is for could not be read from the model, so whether it should decay is open.
Say it: rules=[td.rule("pattern", td.DEFAULT), *td.STANDARD].

WD110 warning idle embedding rows decay
Rows that this batch did not touch have no gradient and shrink at every step; rare words fade.
Spare the embedding, or attach td.decoupled(wd, rows="touched").

WD111 info nothing decays
Weights are trained, and none has a decay: a weight_decay of 0, or one that never reached them.
Give one, td.param_groups(model, wd) say; if none is meant, there is nothing to mend.

WD112 info no gradient, so no decay
The last backward pass did not reach it, and torch's optimizers pass over what has no gradient.
If it should train, look at why the loss does not depend on it; else freeze it.

WD113 warning not what the recipe says
The recipe that was named spares this parameter, or decays it, and these groups do otherwise.
Build the groups by it: td.param_groups(model, wd, rules=td.policies.NAME).

WD201 error group key that is ignored
torch ignores keys that it does not know, misspelled ones too, and its default applies.
Correct the spelling.

WD202 warning empty group
Some libraries drop it, and schedulers then set the wrong groups' rates.
Leave it out; td.param_groups never makes one.

WD203 info more groups than settings
Groups with equal options could be one; each costs kernel launches at every step.
Merge them; td.param_groups does.

WD204 warning lr_scale that nobody applies
The key is there, but torch does not read it and the group's lr does not contain it.
Multiply it into lr, or use the scheduler that reads it.

WD205 error hooks lost
A plan was attached once; copies leave its hooks behind: what ran by hook decays no more.
Call td.attach(optimizer, plan) on this optimizer: it goes on from the copied counters.

WD206 error planned, but never attached
The groups come from a plan whose decay the constructor can't carry out.
Call td.attach(optimizer, plan) once, before training.

WD207 error decays twice: by hook and natively
A plan decays this group by hook, and its own weight_decay is not 0.
Leave weight_decay to the handle; change it with handle.update(plan).

WD208 error not what the plan says
The group's weight_decay is not the plan's: a checkpoint, or another hand, has replaced it.
Load with td.load_optimizer, or attach the plan.

WD209 error strides that a fused CPU optimizer misreads
The fused kernel walks weight and gradient alike, as memory without gaps: updates are silently wrong.
Make both contiguous, or both channels_last; or build the optimizer with fused=False.

WD210 warning penalty in the loss and weight_decay together
The weight is pulled twice.
Keep one of them.

WD211 info ASGD's hidden decay
ASGD shrinks weights by lambd (1e-4) in every step, whatever weight_decay is.
Set lambd=0 if you do not want it.

WD212 error planned penalty is not in the loss
The plan decays rows through the loss, but this loss does not depend on them that way.
Write loss = loss + handle.penalty(model).

WD213 error the attached plan fits no longer
Parameters were added or unfrozen that the plan has no row for: the next step raises.
Call handle.update(td.plan(model, ...)) with a plan of the model as it is now.

WD214 warning a checkpoint was loaded, and weight_decay is another now
load_state_dict takes the checkpoint's options with its state: what the optimizer was made with does nothing.
Load with td.load_optimizer, which says what stays, or write the value after loading, as a schedule of your own does.

WD301 error weight_decay is not a usable number
torch checks the constructor's default only, not each group's.
Give a finite number, at least 0.

WD302 warning huge weight_decay
Weights lose more than a hundredth of their size per step, whatever the gradient says.
Check the units: td.forecast says what it means in half-lives.

WD303 error lr x weight_decay reaches 1
At 1 every weight becomes 0 in a step, above 1 it changes its sign.
Lower one of them, also at the peak of the schedule.

WD304 error decay rounded away
The dtype can't hold so small a change: a step rounds back to where it was, or to the next number that there is.
Attach td.decoupled(wd), which pays it with stochastic rounding, or keep float32 weights.

WD305 warning time scale shorter than an epoch
The weights forget faster than the data comes round.
Lower the coefficient until 1/(lr x wd) is at least an epoch (arXiv 2405.13698).

WD306 warning time scale longer than the run
Decay needs about its time scale to act; in a shorter run it takes the share that is said, and no more.
Raise the coefficient until 1/(lr x wd) is within the run, or leave it out.

WD307 warning learning rate above its peak
The decay is scaled by lr/max_lr, which is above 1 here.
Give the decay its max_lr, or attach it after the scheduler is made.

WD401 warning coupled L2 under an adaptive optimizer
The pull is divided by the size of the gradient: weights with large gradients hardly decay.
Use AdamW, or td.attach(optimizer, td.plan(model, td.decoupled(wd))).

WD402 warning decay that can't shrink: orthogonal parametrization
An orthogonal weight keeps its length: decay of what lies behind it does not shrink it.
Spare what is behind it.

WD403 warning coupled decay on a weight without gradient
Under an adaptive optimizer its step is about the learning rate, for small coefficients too.
Spare or freeze it, or use decoupled decay.

WD404 info scale-invariant weight decays
A norm follows, so decay sets the effective learning rate and not the function.
Nothing to mend; td.corrected keeps its norm steady under a schedule.

WD405 error sparse gradient can't decay
torch's optimizers refuse weight_decay on sparse gradients, or have none.
Attach td.decoupled(wd), or spare the embedding.

WD406 warning decay before a norm is set
The norm is set after the step: decay cλ before it makes the step 1/(1 − cλ) longer, as a larger lr, and no more.
Set that decay to 0; to shrink the weight, leave its norm free.
"""

CATALOG = read_rules(_TEXT)
"""For each code: its severity and title, why it matters, what to do about it."""
