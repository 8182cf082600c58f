import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--weight-decay", default=0.01, help="weight decay")  #! WD509
parser.add_argument("--wd", type=int, default=0)  #! WD509
args = parser.parse_args()
print(args.weight_decay, args.wd)
# ── mended ──
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--weight-decay", default="0.01", help="weight decay")
parser.add_argument("--wd", type=float, default=0)
args = parser.parse_args()
print(float(args.weight_decay), args.wd)
