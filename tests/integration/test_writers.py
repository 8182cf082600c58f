"""Writers of other trackers, offline: what they have kept is read back from their own files."""

from __future__ import annotations

import csv
import json
import struct
import zipfile

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.integrations.csv import CSV

pytestmark = pytest.mark.peers


def train(writer, *, wd=0.1, log=lambda step: None, every=1, steps=20):
    """A loop whose user logs once a step, after it."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = optim.AdamW(td.param_groups(model, wd), lr=0.01)
    with td.Monitor(optimizer, every_steps=every, writers=[writer], strict=True) as monitor:
        for step in range(steps):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
            log(step)
    return monitor.history


def numbers(history):
    """{(step, "group/quantity"): value} of all that was recorded."""
    return {
        (step, f"{group}/{name}"): value
        for group in history.groups
        for name in history.quantities
        for step, value in zip(*history.curve(group, name), strict=True)
    }


def read_wandb(file):
    """The rows of an offline run, and what it defined."""
    from wandb.proto import wandb_internal_pb2

    data, at, part, rows, metrics = file.read_bytes(), 7, b"", [], {}
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        part, at = part + data[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):
            record, part = wandb_internal_pb2.Record.FromString(part), b""
            if record.WhichOneof("record_type") == "history":
                rows.append({one.key or "/".join(one.nested_key): json.loads(one.value_json)
                             for one in record.history.item})  # fmt: skip
            metrics |= {record.metric.glob_name: record.metric.step_metric} if record.HasField("metric") else {}
    return rows, metrics


@pytest.mark.parametrize("logs", ["own steps", "no steps", "one step of four"])
def test_wandb_keeps_every_row_of_the_user_and_every_record(logs, tmp_path, monkeypatch):
    """Whether the user gives steps or not, and also where there are fewer of them than records."""
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    from torchdecay.integrations.wandb import WandB

    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(mode="offline", dir=str(tmp_path), project="decay")
    log = {
        "own steps": lambda step: run.log({"loss": step}, step=step),
        "no steps": lambda step: run.log({"loss": step}),
        "one step of four": lambda step: step % 4 or run.log({"loss": step}, step=step // 4),
    }[logs]
    history = train(WandB(run), log=log, wd=20.0)
    run.finish()
    # Its service writes on for a moment; this waits for it.
    wandb.teardown()
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows, metrics = read_wandb(file)
    assert [row["loss"] for row in rows if "loss" in row] == list(range(0, 20, 4 if logs.startswith("one") else 1))
    found = {
        (row["decay/step"], name.removeprefix("decay/")): value
        for row in rows if "decay/step" in row
        for name, value in row.items() if name.startswith("decay/") and name != "decay/step"
    }  # fmt: skip
    assert found == pytest.approx(numbers(history)) and len(history.steps) == 20
    assert metrics["decay/*"] == "decay/step"


def test_mlflow_takes_names_that_it_does_not_allow(tmp_path, monkeypatch):
    """Group names with commas and brackets as well; alarms are tags."""
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
    from torchdecay.integrations.mlflow import MLflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with pytest.raises(td.ApplyError, match="no run of MLflow is active"):
        MLflow()
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with mlflow.start_run() as run:
        history = train(MLflow(), wd=20.0, every=5)
        MLflow()({"AdamW 1, l1(0.1)/planned_shrink": 1.0}, 3)
    client = mlflow.MlflowClient()
    for (step, name), value in numbers(history).items():
        assert (step, pytest.approx(value)) in [
            (one.step, one.value) for one in client.get_metric_history(run.info.run_id, f"decay/{name}")
        ]
    data = client.get_run(run.info.run_id).data
    assert data.metrics["decay/AdamW 1_ l1_0.1_/planned_shrink"] == 1.0
    assert "dominates" in data.tags["decay/alarm/dominates"]


def test_comet_keeps_the_step_of_the_user(tmp_path, monkeypatch):
    """What is logged without a step stays where it was."""
    comet_ml = pytest.importorskip("comet_ml", reason="comet_ml is not installed")
    from torchdecay.integrations.comet import Comet

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMET_LOGGING_CONSOLE", "ERROR")
    experiment = comet_ml.OfflineExperiment(
        offline_directory=str(tmp_path), display_summary_level=0, log_code=False, log_env_details=False,
        auto_output_logging=False,
    )  # fmt: skip
    experiment.set_step(1000)
    history = train(Comet(experiment), wd=20.0, every=5)
    experiment.log_metric("loss", 1.0)
    experiment.end()
    (file,) = tmp_path.glob("*.zip")
    with zipfile.ZipFile(file) as archive:
        lines = [json.loads(line) for line in archive.read("messages.json").splitlines()]
    metrics = [line["payload"]["metric"] | line["payload"] for line in lines if line["type"] == "metric_msg"]
    found = {(one["step"], one["metricName"].removeprefix("decay/")): one["metricValue"] for one in metrics}
    assert {key: value for key, value in found.items() if key[1] != "loss"} == pytest.approx(numbers(history))
    assert (1000, "loss") in found


def test_csv_is_read_back_by_anything(tmp_path):
    """One number a line; a file that is there is not overwritten."""
    history = train(CSV(tmp_path / "a.csv"), every=5)
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(int(one["step"]), f"{one['group']}/{one['quantity']}"): float(one["value"]) for one in rows}
    assert found == pytest.approx(numbers(history))
    with pytest.raises(td.LoadError, match="is there already"):
        CSV(tmp_path / "a.csv")
    CSV(tmp_path / "a.csv", append=True)({"x/y": 1.0}, 7)
    assert (tmp_path / "a.csv").read_text().splitlines()[-1] == "7,x,y,1.0"
