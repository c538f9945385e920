"""Experiments on populations of networks: make zoos, train metanetworks on them, compare the results.

The names here are for notebooks and commands; each is loaded on first use. Every experiment is a module with a function
`experiment(settings, zoo)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from . import accuracy, inr_edit, inr_ssl, report
    from .experiment import Experiment, Settings, load_result, run
    from .members import Zoo
    from .parallel import process_group, rank
    from .predictor import SHIPPED, Prediction, Predictor
    from .probe_responses import WithProbeResponses, probe_images, probe_responses
    from .progress import OnProgress
    from .training import History, Options, Task, fit
    from .zoo import make_zoo, read_index

__all__ = [
    "SHIPPED",
    "Experiment",
    "History",
    "OnProgress",
    "Options",
    "Prediction",
    "Predictor",
    "Settings",
    "Task",
    "WithProbeResponses",
    "Zoo",
    "accuracy",
    "fit",
    "inr_edit",
    "inr_ssl",
    "load_result",
    "make_zoo",
    "probe_images",
    "probe_responses",
    "process_group",
    "rank",
    "read_index",
    "report",
    "run",
]

_MODULES = ("accuracy", "inr_edit", "report", "inr_ssl")
_HOMES = {
    "SHIPPED": "predictor",
    "Experiment": "experiment",
    "History": "training",
    "OnProgress": "progress",
    "Options": "training",
    "Prediction": "predictor",
    "Predictor": "predictor",
    "Settings": "experiment",
    "Task": "training",
    "WithProbeResponses": "probe_responses",
    "Zoo": "members",
    "fit": "training",
    "process_group": "parallel",
    "load_result": "experiment",
    "make_zoo": "zoo",
    "probe_images": "probe_responses",
    "probe_responses": "probe_responses",
    "rank": "parallel",
    "read_index": "zoo",
    "run": "experiment",
}

__getattr__, __dir__ = lazy(__name__, _HOMES, _MODULES)
