import click
import torch


@click.command()
@click.option("--lr", default=0.1)
@click.option("--weight-decay", default=1e-4, help="L2 of the optimizer")  #! WD510
def train(lr, weight_decay):
    torch.optim.SGD(net.parameters(), lr=lr)
# ── mended ──
import click
import torch


@click.command()
@click.option("--lr", default=0.1)
@click.option("--weight-decay", default=1e-4, help="L2 of the optimizer")
def train(lr, **options):
    build(net, lr, **options)


def build(net, lr, weight_decay):
    return torch.optim.SGD(net.weights(), lr=lr, weight_decay=weight_decay)
