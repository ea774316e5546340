"""Bad values end before any data is loaded or fetched, whoever reads them."""

from __future__ import annotations

import warnings

import pytest
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.engine import parts
from experiments.engine.configuration import check, enough_memory
from experiments.engine.errors import ConfigurationError
from experiments.engine.identity import check_keys
from experiments.engine.parts import build
from experiments.engine.resolvers import expanded
from experiments.engine.task import Share
from experiments.engine.trial import check_targets, try_steps
from tests.helpers.running import configuration, run_in

called: list[object] = []


def dataset(*args, **kwargs):
    """Record that data were asked for."""
    called.append((args, kwargs))
    raise ValueError("data were loaded")


OWN_DATA = [f"task.dataset._target_={__name__}.dataset", "task=cifar100", "scale=paper", "model=resnet8"]
BAD = {
    "task.padding=x": "task.padding=x",
    "task.padding=-1": "task.padding=-1",
    "task.padding=1.5": "task.padding=1.5",
    "task.flip=3": "task.flip=3",
    "task.channels=0": "task.channels=0",
    "task.num_classes=0": "task.num_classes=0",
    "task.dataset.train_subset=abc": "task.dataset.train_subset=abc",
    "task.dataset.train_subset=0": "task.dataset.train_subset=0",
    "task.dataset.val_subset=-5": "task.dataset.val_subset=-5",
    "model.num_classes=7": "model.num_classes=7, but the task has 100",
    "evaluation.train_pass=dirty": "train_pass=dirty is none of clean",
    "runtime.evaluation_batch_size=0": "evaluation_batch_size=0",
    "batch_size=0": "batch_size=0",
    "optim.k=five": "k must be an integer of at least 1, not 'five'",
    "optim.inner_state=keep": "keep",
    "optim.clip=0": "optim.clip=0",
    "optim.lr=fast": "optim.lr=fast",
    "schedule.milestones=[x]": "schedule.milestones",
    "precision=fp16": "precision=fp16 is not possible; give one of fp32, tf32, bf16",
    "runtime.micro_batches=0": "runtime.micro_batches=0",
    "runtime.checkpoint_every_s=-1": "runtime.checkpoint_every_s=-1",
    "runtime.compile=fast": "runtime.compile=fast",
    "runtime.keep_memory=maybe": "runtime.keep_memory=maybe",
    "runtime.fused=maybe": "runtime.fused=maybe",
    "processes=0": "processes=0",
    "batch_norm_images=0": "batch_norm_images=0",
    "batch_norm_images=64 runtime.micro_batches=2": "runtime.micro_batches=2 is not possible with batch_norm_images=64",
    "evaluation.splits=[]": r"evaluation.splits=\[\]",
    "evaluation.splits=train": "evaluation.splits=train",
    "evaluation.train_pass_every=0": "evaluation.train_pass_every=0",
    "keep={metric: val/loss, mode: low}": "keep.mode=low is not possible; give one of min, max",
    "keep=best": r"keep=best is not possible; give null or \{metric: val/loss, mode: min\}",
    "keep=[val/loss]": "keep=.* is not possible",
    "keep={mode: min}": "keep=.* is not possible",
    "keep={metric: val/loss, patience: 3}": "keep=.* is not possible",
    "epochs=null": "epochs=null and steps=null",
    "epochs=10000000000": "epochs=10000000000 is not possible; give null or a whole number from 1 to 1000000",
    "runtime.threads=1000000": "runtime.threads=1000000 is not possible; give null or a whole number from 1 to 1024",
    "optim=adamw optim.betas=null": "optim.betas=null is not possible; give a list of two numbers",
    "optim=adamw optim.betas=0.9": "optim.betas=0.9 is not possible",
    "optim=adamw optim.betas=[0.9]": r"optim.betas=\[0.9\] is not possible",
    "optim=adamw optim.betas=[a,b]": "optim.betas=.* is not possible",
    "optim=adamw optim.betas=[nan,0.9]": "optim.betas=.* is not possible",
    "schedule=plateau schedule.metric=null": "schedule.metric=null is not possible; give the name of a metric",
    "schedule=plateau schedule.mode=least": "schedule.mode=least is not possible; give one of min, max",
    "schedule=plateau schedule.factor=2": "schedule.factor=2 is not possible; give a number between 0 and 1",
    "schedule=plateau schedule.factor=nan": "schedule.factor=nan is not possible",
    "schedule=plateau schedule.patience=soon": "schedule.patience=soon is not possible; give a whole number",
    "schedule=plateau schedule.patience=-1": "schedule.patience=-1 is not possible",
    "schedule=plateau schedule.metric=train/loss evaluation.train_pass_every=2": "not always measured",
    "average=polyak average.buffers=5": "average.buffers=5 is not possible; give one of True, False",
    "tracker=wandb tracker.project=null": "tracker.project=null is not possible; give the name of a project",
    "tracker=wandb tracker.entity=5": "tracker.entity=5 is not possible",
    "task.padding=1000000": "task.padding=1000000 is not possible; give a whole number of at least 0, at most 1024",
    "task.dataset=5": "task.dataset=5 is not possible; give a node with a _target_",
    "tracker._target_=5": "tracker=.* is not possible; give a node with a _target_",
    # What torch would take, and stumble over at the first step.
    "+optim.optimizer.dampening=abc": "optim.optimizer.dampening=abc is not possible; give a number, such as 0",
    "+optim.optimizer.dampening=true": "optim.optimizer.dampening=True is not possible; give a number",
    "+optim.optimizer.dampening=[1]": r"optim.optimizer cannot be used with .*dampening=\[1\]: ",
    "+optim.optimizer.nesterov=5": "optim.optimizer.nesterov=5 is not possible; give true or false",
    "+optim.optimizer.maximize=null": "optim.optimizer.maximize=null is not possible; give true or false",
    "+optim.optimizer.foreach=7": "optim.optimizer.foreach=7 is not possible; give null, true or false",
    "+optim.optimizer.foreach=true": "optim.optimizer cannot be used with .*foreach=True: `fused` and `foreach` cannot",
    "optim=adamw +optim.optimizer.amsgrad=5": "optim.optimizer.amsgrad=5 is not possible",
    "optim.optimizer._target_=torch.optim.LBFGS": "optim.optimizer cannot be used with .* unexpected keyword argument",
    "optim.optimizer._target_=torch.Nope": "optim.optimizer._target_=torch.Nope cannot be imported",
    "optim.optimizer._target_=torch.__version__": "optim.optimizer._target_=torch.__version__ is no class or function",
    "optim.optimizer._partial_=false": "optim.optimizer needs _partial_: true beside _target_: torch.optim.SGD",
    "tracker._target_=nowhere.Tracker": "tracker._target_=nowhere.Tracker cannot be imported",
    "schedule=constant +schedule.scheduler.total_iters=x": "schedule.scheduler.total_iters=x is not possible",
    "schedule=plateau +schedule.scheduler.threshold=[1]": r"schedule.scheduler cannot be used with .*threshold=\[1\]",
    "schedule.scheduler._target_=torch.optim.lr_scheduler.StepLR": "schedule.scheduler cannot be used with milestones",
    "~schedule.scheduler +schedule.scheduler={_target_:torch.optim.lr_scheduler.StepLR,_partial_:true,step_size:0}": (
        "schedule.scheduler cannot be used with step_size=0: integer modulo by zero"
    ),
    "average=polyak average.mean._target_=builtins.dict": "average.mean cannot be used with decay=0.999, buffers=True",
}


def prepared(config):
    check(config)
    return build(config, torch.device("cpu"))


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_value_is_named_before_data_are_loaded(bad):
    called.clear()
    chosen = [bad] if bad.startswith("keep=") else bad.split()
    config = configuration(*OWN_DATA, *chosen)
    with pytest.raises(ConfigurationError, match=BAD[bad]):
        prepared(config)
    assert called == []


def test_good_values_reach_the_data():
    called.clear()
    with pytest.raises(ConfigurationError, match="data were loaded"):
        prepared(configuration(*OWN_DATA))
    assert len(called) == 1


@pytest.mark.parametrize(
    ("chosen", "good"),
    [
        ("+optim.optimizer.nesterov=true", "optim.optimizer.nesterov"),
        ("runtime.fused=false +optim.optimizer.foreach=null", "optim.optimizer.foreach"),
        ("optim=adamw +optim.optimizer.maximize=true", "optim.optimizer.maximize"),
        ("schedule=plateau +schedule.scheduler.threshold_mode=abs", "schedule.scheduler.threshold_mode"),
    ],
)
def test_good_arguments_pass_the_trial_without_a_warning(chosen, good):
    config = configuration("task=digits", "scale=smoke", "average=polyak", *chosen.split())
    assert OmegaConf.select(config, good, default=...) is not ...
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_targets(config)
        try_steps(config, torch.device("cpu"))


def test_the_trial_changes_no_initial_weight(monkeypatch):
    config = configuration("task=digits", "scale=smoke")
    with_trial = build(config, torch.device("cpu")).task.model.state_dict()
    monkeypatch.setattr(parts, "try_steps", lambda *_: None)
    without = build(config, torch.device("cpu")).task.model.state_dict()
    assert all(torch.equal(with_trial[name], value) for name, value in without.items())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("task.num_classes=100000000000000", r"model does not fit into memory \(.*\); model.num_classes=1000000000000"),
        ("task.padding=9", "task.padding=9 is not possible; give at most 8, the size of the images"),
        ("task._target_=builtins.dict", "task._target_=builtins.dict makes no task: it has no model"),
    ],
)
def test_what_is_too_large_or_no_task_is_named_by_its_key(bad, message):
    with pytest.raises(ConfigurationError, match=message):
        prepared(configuration("task=digits", "scale=smoke", bad))
    build(configuration("task=digits", "scale=smoke", "task.padding=8"), torch.device("cpu"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000 bytes. Code 12"
        ),
        torch.OutOfMemoryError("CUDA out of memory. Tried"),
        MemoryError("unable"),
        OverflowError("int too large"),
        RuntimeError("Storage size calculation overflowed"),
    ],
)
def test_no_memory_names_the_numbers_of_the_node(error):
    config = configuration("task=digits", "scale=smoke")
    with (
        pytest.raises(
            ConfigurationError, match=r"^model does not fit into memory \(.+\); model.num_classes=10, model.in"
        ),
        enough_memory(config, "model"),
    ):
        raise error
    with pytest.raises(RuntimeError, match="shapes differ"), enough_memory(config, "model"):
        raise RuntimeError("shapes differ")


def test_a_metric_of_a_pass_that_is_thinned_out_cannot_decide_what_is_kept():
    config = configuration(*OWN_DATA, "keep={metric: train/loss}", "evaluation.train_pass_every=2")
    with pytest.raises(ConfigurationError, match=r"keep.metric=train/loss is not possible with .*train_pass_every=2"):
        check(config)
    check(configuration(*OWN_DATA, "keep={metric: train/loss}", "evaluation.train_pass_every=1"))
    check(configuration(*OWN_DATA, "keep={metric: val/loss}", "evaluation.train_pass_every=2"))


@pytest.mark.parametrize("key", ["evaluation.splits=[val,tset]", "evaluation.final_splits=[tset]"])
def test_a_split_that_there_is_not_is_named_before_anything_is_trained(key, tmp_path):
    with pytest.raises(ConfigurationError, match="there is no tset; choose from train, val"):
        run_in(tmp_path, "task=digits", "scale=smoke", key)
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_can_be_chosen_on_the_command_line():
    check_keys(configuration("task=digits", "scale=smoke", "keep={metric: val/loss, mode: min}"), ())


def test_more_pieces_than_samples_are_one_piece_per_sample():
    pieces = Share(micro=10**30).passes(3)
    assert [(piece.start, piece.stop) for piece in pieces] == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("scale_factor=nan", "scale_factor=nan is not possible"),
        ("scale_factor=abc", "scale_factor=abc is not possible"),
        ("scale_factor=-1", "scale_factor=-1 is not possible"),
        ("task.preset.epochs=-3", "epochs=-3 is not possible"),
        ("task.preset.epochs=1e400", "epochs=inf is not possible"),
        ("task.recipes.la_sgd=5", "task.recipes.la_sgd=5 is not possible"),
        ("schedule.scheduler=null", "schedule.scheduler=null is not possible; give a node with a _target_"),
        ("optim.optimizer=null", "optim.optimizer=null is not possible"),
        ("+probe={a: 1}", "probe={.a.: 1} is not possible"),
        ("runtime.process_timeout_s=1e308", "process_timeout_s=1e.308 is not possible"),
    ],
)
def test_what_resolvers_and_constructors_are_given_is_refused_by_its_key(bad, said):
    with pytest.raises((ConfigurationError, OmegaConfBaseException), match=said):
        check(configuration("task=digits", "scale=smoke", bad))


@pytest.mark.parametrize("folder", [None, "", True, ["a"], 1.5])
def test_what_is_no_folder_is_refused_before_one_is_made(folder):
    with pytest.raises(ConfigurationError, match=r"runtime.output_dir=.* is not possible; give a folder"):
        expanded(folder)
