"""The tasks that can be asked for by name, in words."""

ABOUT = {
    "overfit": "noise learned by heart: 1,000 rows, 1,000 columns, labels that mean nothing",
    "digits": "handwritten digits, 36 % of the training labels wrong: decay visibly helps",
    "mnist1d": "digits drawn as curves of 40 points, few rows: a small CNN",
    "grokking": "addition modulo 59: decay decides between 0 % and 100 %",
    "ridge": "linear regression whose best weights are known exactly, for checks",
    "fashion": "Fashion-MNIST, 40 % of the training labels wrong; its files from Debian or --data FOLDER",
    "csv": "a column of your own file: --data file.csv --target column",
    "module:function": "your own: a function without arguments that returns a torchdecay.lab.Task",
}
"""What can be asked for, for people."""
