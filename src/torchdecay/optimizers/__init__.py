"""What each optimizer class does in a step of its own: cards by class, and the formulas behind them.

Read in this order: peaks, elementwise, updates, formulas, gradients, cards, wrappers, steps.
"""
