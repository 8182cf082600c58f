"""What decay will do in a run, said before training.

Read in this order: course, equilibrium, predictability, stand_in, remarks, result, forecast.
"""
