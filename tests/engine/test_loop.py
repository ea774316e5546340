"""The training loop against numbers worked by hand and against a plain loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from experiments.engine import loop
from experiments.engine.evaluation import measure
from experiments.engine.interruption import Interruption
from experiments.engine.parts import Parts, build
from experiments.engine.schedule import Schedule, multistep
from experiments.engine.task import Batch, Update
from experiments.engine.tracker import NoTracker
from experiments.engine.update import scaled_learning_rate
from lookahead import Lookahead
from tests.helpers.running import configuration, history, run_in, state

SMOKE = ["task=digits", "scale=smoke"]
SPLITS = ("train", "val")


def plain_loop(config, epochs):
    """Train without the engine; return the model, and each epoch's mean loss over images."""
    parts = build(config, torch.device("cpu"))
    means = []
    for epoch in range(epochs):
        total = 0.0
        for (batch,) in (update.parts for update in parts.task.updates(epoch)):
            loss = nn.functional.cross_entropy(parts.task.model(batch.inputs), batch.targets)
            loss.backward()
            parts.optimizer.step()
            parts.optimizer.zero_grad()
            if parts.average is not None and parts.average.per == "step":
                parts.average.mean.update()
            total += loss.item() * len(batch.targets)
        parts.schedule.scheduler.step()
        means.append(total / 200)
    return parts, means


@pytest.mark.parametrize("optim", ["sgd", "adamw", "polyak", "swa", "nt_asgd", "la_sgd", "la_adamw", "adam", "la_adam"])
def test_the_loop_equals_a_plain_one_to_the_bit(optim, tmp_path):
    overrides = [*SMOKE, f"optim={optim}", "epochs=3", "schedule.milestones=[2]"]
    run_in(tmp_path, *overrides)
    parts, means = plain_loop(configuration(*overrides), 3)
    for name, tensor in parts.task.model.state_dict().items():
        assert torch.equal(tensor, state(tmp_path)["model"][name]), name
    # Both means are over the 200 images, the last batch of 8 with its own weight; ours sums in float64.
    assert [float(row["train/running_loss"]) for row in history(tmp_path)] == pytest.approx(means, rel=1e-6)


def test_the_recorded_metrics_are_those_of_the_slow_weights(tmp_path):
    overrides = [*SMOKE, "optim=la_sgd", "epochs=1"]  # 7 updates: two past the synchronization at 5
    run_in(tmp_path, *overrides)
    parts, _ = plain_loop(configuration(*overrides), 1)
    fast = measure(parts, SPLITS)
    with parts.optimizer.slow_weights():
        slow = measure(parts, SPLITS)
    recorded = {key: float(history(tmp_path)[0][key]) for key in slow}
    assert recorded == slow
    assert recorded != fast


def test_the_recorded_metrics_of_polyak_are_those_of_the_average(tmp_path):
    overrides = [*SMOKE, "optim=polyak", "epochs=1"]
    run_in(tmp_path, *overrides)
    parts, _ = plain_loop(configuration(*overrides), 1)
    with parts.average.mean.averaged_weights():
        averaged = measure(parts, SPLITS)
    assert {key: float(history(tmp_path)[0][key]) for key in averaged} == averaged


@pytest.mark.parametrize(("delay", "first"), [(0, 60), (1, 61)])
def test_the_new_rate_is_first_used_in_the_stated_epoch(delay, first):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = Schedule(optimizer, lambda o: multistep(o, [60, 120, 160], 0.2, delay), per="epoch")
    used = []
    for _ in range(200):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.after("step")
        schedule.after("epoch", {})
    changes = [epoch for epoch in range(1, 200) if used[epoch] != used[epoch - 1]]
    assert changes == [first, first + 60, first + 100]
    assert used[-1] == pytest.approx(0.1 / 125)


def test_history_records_the_rate_that_the_epoch_used(tmp_path):
    run_in(tmp_path, *SMOKE, "optim=sgd", "optim.lr=0.05", "epochs=3", "schedule.milestones=[1,2]")
    assert [float(row["lr"]) for row in history(tmp_path)] == pytest.approx([0.05, 0.01, 0.002])


def test_a_plateau_schedule_gets_the_validation_metric():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    plateau = lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=1)  # noqa: E731
    schedule = Schedule(optimizer, plateau, per="epoch", metric="val/loss")
    rates = []
    for loss in (3.0, 2.0, 2.5, 2.5, 1.0):
        schedule.after("epoch", {"val/loss": loss})
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5]


def test_a_schedule_by_step_moves_on_each_update(tmp_path):
    run_in(tmp_path, *SMOKE, "optim=sgd", "optim.lr=0.05", "epochs=1", "schedule.per=step", "schedule.milestones=[3,6]")
    assert float(history(tmp_path)[0]["lr"]) == pytest.approx(0.05 * 0.2**2)


def test_a_batch_s_own_rate_is_for_its_step_alone():
    parameter = nn.Parameter(torch.tensor([1.0]))
    optimizer = Lookahead(torch.optim.SGD([parameter], lr=0.5), k=5)
    parameter.grad = torch.tensor([1.0])
    with scaled_learning_rate(optimizer, 0.5):
        optimizer.step()
    assert parameter.item() == 0.75
    assert optimizer.param_groups[0]["lr"] == 0.5
    with pytest.raises(RuntimeError), scaled_learning_rate(optimizer, 0.5):
        raise RuntimeError
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_steps_end_the_run_in_mid_epoch_and_count_samples(tmp_path):
    run_in(tmp_path, *SMOKE, "optim=la_sgd", "steps=9", "evaluation.every_steps=4")
    rows = history(tmp_path)
    # 7 updates an epoch, of 32 images but for the last of 8; rows at 4, 8 (every 4), 7 (the epoch) and 9 (the end)
    assert [(row["epoch"], row["step"], row["samples"]) for row in rows] == [
        ("1", "4", "128"),
        ("1", "7", "200"),
        ("2", "8", "232"),
        ("2", "9", "264"),
    ]


def test_evaluations_every_n_epochs_and_at_the_end(tmp_path):
    run_in(tmp_path, *SMOKE, "optim=sgd", "epochs=5", "evaluation.every_epochs=2")
    assert [row["epoch"] for row in history(tmp_path)] == ["2", "4", "5"]


@pytest.mark.parametrize("train_pass", ["clean", "augmented", "none"])
def test_the_second_pass_over_the_training_set_is_a_choice(train_pass, tmp_path):
    run_in(tmp_path, *SMOKE, "optim=sgd", "epochs=1", f"evaluation.train_pass={train_pass}")
    assert ("train/loss" in history(tmp_path)[0]) == (train_pass != "none")


def test_no_update_reads_a_tensor_s_value(tmp_path, monkeypatch):
    reads = []
    item = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: reads.append(1) or item(self))
    config = configuration(*SMOKE, "optim=la_sgd", "runtime.read_loss_every=100")
    parts = build(config, torch.device("cpu"))
    trainer = loop.Trainer(config, parts, torch.device("cpu"), tmp_path, None, None)
    updates = list(parts.task.updates(0))
    reads.clear()
    for update in updates:
        trainer.update(update)
    assert reads == []


def test_bf16_autocast_trains_in_bf16_and_keeps_float32_weights(tmp_path):
    config = configuration(*SMOKE, "optim=sgd", "precision=bf16")
    parts = build(config, torch.device("cpu"))
    seen = []
    parts.task.model.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    trainer = loop.Trainer(config, parts, torch.device("cpu"), tmp_path, None, None)
    trainer.update(next(iter(parts.task.updates(0))))
    assert seen == [torch.bfloat16]
    assert {p.dtype for p in parts.task.model.parameters()} == {torch.float32}


def test_channels_last_reaches_weights_and_batches():
    config = configuration("task=cifar10", "scale=smoke", "runtime.channels_last=true")
    task = build(config, torch.device("cpu")).task
    conv = next(m for m in task.model.modules() if isinstance(m, nn.Conv2d) and m.weight.shape[1] > 1)
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert next(iter(task.updates(0))).parts[0].inputs.is_contiguous(memory_format=torch.channels_last)


def test_a_seed_means_the_same_weights_and_another_seed_others():
    one, again, two = (build(configuration(*SMOKE, f"seed={s}"), torch.device("cpu")).task.model for s in (1, 1, 2))
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (one, again, two)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_any_task_that_keeps_the_protocol_trains_without_an_edit_to_the_engine(tmp_path):
    """A domain with epochs of changing length, its own rate a batch, and state that it carries."""

    class Line:
        def __init__(self):
            self.model, self.carried = nn.Linear(1, 1), 0
            nn.init.zeros_(self.model.weight)
            nn.init.zeros_(self.model.bias)

        def steps(self, epoch):
            return 2 + epoch

        def updates(self, epoch, start, share):
            for i in range(start, 2 + epoch):
                batch = Batch(torch.ones(1, 1), torch.ones(1, 1), size=1, weight=float(i + 1))
                yield Update([batch], weight=batch.weight, size=1, lr_scale=0.5 if i else 1.0)

        def loss(self, model, batch):
            self.carried += 1
            return (model(batch.inputs) - batch.targets).square().mean()

        def evaluate(self, model, split, share, processes, tick):
            return {f"{split}/loss": self.carried * 1.0}

        def derive(self, metrics):
            return {}

        def state_dict(self):
            return {"carried": self.carried}

        def load_state_dict(self, states):
            self.carried = states[0]["carried"]

    config = configuration(
        *SMOKE,
        "optim=sgd",
        "optim.momentum=0",
        "optim.weight_decay=0",
        "optim.lr=0.1",
        "epochs=2",
        "schedule=constant",
    )
    task = Line()
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.1)
    schedule = Schedule(optimizer, lambda o: multistep(o, [], 1.0), per="epoch")
    parts = Parts(task, task.model, optimizer, schedule, average=None)
    trainer = loop.Trainer(config, parts, torch.device("cpu"), tmp_path, NoTracker(), Interruption())
    assert trainer.train()
    assert [float(row["val/loss"]) for row in history(tmp_path)] == [2.0, 5.0]
    # By hand: w = b, error e = 1 - 2w; a step of rate r takes e to (1 - 4r) e: .6 at the whole rate, .8 at half of it.
    errors = [1.0, 0.6, 0.6 * 0.8, 0.6**2 * 0.8, 0.6**2 * 0.8**2]
    losses = [e * e for e in errors]
    expected = [(losses[0] + 2 * losses[1]) / 3, (losses[2] + 2 * losses[3] + 3 * losses[4]) / 6]
    assert [float(row["train/running_loss"]) for row in history(tmp_path)] == pytest.approx(expected, rel=1e-5)


def test_compile_is_asked_for_by_mode_and_leaves_the_checkpoint_plain(tmp_path, monkeypatch):
    asked = []

    def compiled(model, **options):
        asked.append(options)
        return lambda inputs: model(inputs)

    monkeypatch.setattr(torch, "compile", compiled)
    run_in(tmp_path, *SMOKE, "optim=la_sgd", "runtime.compile=reduce-overhead")
    assert asked == [{"mode": "reduce-overhead", "dynamic": False}]
    plain = build(configuration(*SMOKE), torch.device("cpu")).task.model
    assert state(tmp_path)["model"].keys() == plain.state_dict().keys()
