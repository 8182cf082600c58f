"""Fine-tuning on few images: does decay toward the pretrained weights beat decay toward zero?

Fashion-MNIST (set TORCHDECAY_FASHION_MNIST where Debian's package is not installed). A small CNN learns five of its
classes (0, 2, 4, 6, 8) from 4,000 images in 500 steps; then a fresh last layer and all of the rest learn the other
five from 50 images, all at once, in 300 steps. AdamW at learning rate 0.001. The last layer has decoupled decay of 1
in every run. The other matrices have none, decoupled decay, or decay toward the pretrained weights (L2-SP), of 1, 3,
10 or 30: for each form and seed lab.sweep takes the value that is best on 500 other images, and the claims are about
2,000 test images.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

import torchdecay as td
from study import Claim, Found, Row, main
from torchdecay import lab
from torchdecay.lab.tasks import fashion
from torchdecay.lab.tasks.idx import read_images, read_labels
from torchdecay.lab.tasks.parts import Classification
from torchdecay.lab.training.train import batches_of

FORMS = {"decoupled": td.decoupled, "toward the pretrained weights": lambda wd: td.toward("initial", wd)}
VALUES, SEEDS = (1.0, 3.0, 10.0, 30.0), (0, 1, 2)
Rows = tuple[Tensor, Tensor]


def images(part: str, odd: bool, count: int, generator: torch.Generator) -> Rows:
    """Some images of five classes, which are called 0 to 4."""
    folder = fashion.find_files()
    file = folder / f"{part}-images-idx3-ubyte.gz"
    x = read_images(file)
    y = read_labels(folder / f"{part}-labels-idx1-ubyte.gz", len(x), 10).long()
    own = torch.nonzero(y % 2 == odd).squeeze(1)
    picked = own[torch.randperm(len(own), generator=generator)[:count]]
    return (x[picked].unsqueeze(1).float() / 255 - 0.29) / 0.35, y[picked] // 2


def network() -> nn.Sequential:
    trunk = fashion.model()[:-1]
    return nn.Sequential(trunk, nn.Linear(64, 5))


def pretrained(seed: int, num_steps: int) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.AdamW(td.param_groups(model, 0.01), lr=1e-3)
    batches = batches_of(images("train", False, 4000, generator), 128, generator)
    for _ in range(num_steps):
        x, y = next(batches)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model[1] = nn.Linear(64, 5)
    return model


def task_of(seed: int, quick: bool) -> lab.Task:
    """One task a seed: each begins at weights of its own."""
    model = pretrained(seed, 20 if quick else 500)
    generator = torch.Generator().manual_seed(100 + seed)
    x, y = images("train", True, 550, generator)
    data = lab.Data(train=(x[:50], y[:50]), validation=(x[50:], y[50:]), test=images("t10k", True, 2000, generator))
    return Classification(
        name="fine-tuning",
        data=lambda seed: data,
        model=lambda: copy.deepcopy(model),
        num_steps=20 if quick else 300,
        eval_every=300,
        rules=[td.rule("1.weight", td.decoupled(1.0)), *td.STANDARD],
    )


def measure(quick: bool) -> Found:
    accuracy: dict[str, list[float]] = {"none": [], **{form: [] for form in FORMS}}
    chosen: dict[str, list[float]] = {form: [] for form in FORMS}
    for seed in SEEDS:
        task = task_of(seed, quick)
        for form, make in FORMS.items():
            found = lab.sweep(task, make, VALUES, seeds=[seed], engine="serial")
            points = [point for point in found.points if point.value]
            best = max(points, key=lambda point: found.of(point.label)[0].final(found.measure))
            accuracy[form].append(found.of(best.label)[0].final("test_score"))
            chosen[form].append(best.value)
        accuracy["none"].append(found.of("none")[0].final("test_score"))
    toward = accuracy["toward the pretrained weights"]
    return Found(
        seeds=SEEDS,
        rows=[
            Row(setting="none", measured={"test accuracy": accuracy["none"]}),
            *(
                Row(setting=form, measured={"test accuracy": accuracy[form], "chosen coefficient": chosen[form]})
                for form in FORMS
            ),
        ],
        claims=[
            Claim(
                said=f"Decay toward the pretrained weights makes more of the test images right than {other}.",
                source="arXiv 1802.01483",
                number=f"test accuracy, toward the pretrained weights less {other}",
                values=[a - b for a, b in zip(toward, accuracy[key], strict=True)],
                above=0.0,
                grain=1 / 2000,
            )
            for other, key in (("decay toward zero", "decoupled"), ("none", "none"))
        ],
    )


if __name__ == "__main__":
    main(measure)
