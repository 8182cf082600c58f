"""Values: what pulls which parameter, toward where, how hard, and why."""

# A Decay prints as the form that it equals, so whoever opens the room has them all.
from torchdecay.plans import forms as forms
