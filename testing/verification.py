"""`verify`: check every claim of a graph about its network against ONNX Runtime and the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir

from ..frontend import compile
from ..ir import GraphError, ParameterGraph
from ..symmetry import KINDS, Symmetries, checked_kinds, product, symmetries
from .controls import controls as negative
from .diagnose import Generator, culprits
from .precision import tolerance_of
from .processes import ChildProcess, InProcess, NotRunnable, Runner, default_timeout
from .report import Failure, OutputCheck, Report
from .round_trip import round_trip
from .trial import Errors, Trial, shuffled
from .trial_inputs import responsive_trial

__all__ = ["KINDS", "verify"]

Source = str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model
Progress = Callable[[str, int, int], None]

UNREAD = ("dead", "never read")
"""Reasons in the account that say that a tensor has no effect."""

_NEVER_READ = "tensors that are never read change the output by"
_ROUNDS = 4
_CLEARLY = 10


def verify(
    model: Source,
    *,
    trials: int = 8,
    seed: int = 0,
    inputs: Mapping[str, np.ndarray] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    kinds: Sequence[str] = ("permutation",),
    tolerance: float | None = None,
    controls: int = 3,
    timeout: float | Literal["auto"] | None = None,
    on_progress: Progress | None = None,
    **options: Any,
) -> Report:
    """Check the claims of a model's graph: symmetries, account and write-back.

    Symmetries: the product of all generators, and random products of some, are applied to the weights, written back
    and run in ONNX Runtime (one CPU thread, no graph optimisation) on random inputs and on `inputs`. The weights are
    perturbed first so that all are distinct; signs, scales and matrices are drawn at random. The change of each output,
    relative to its largest magnitude, must stay below its tolerance.

    Account: tensors that are called dead or never read are replaced by others, which must not change an output.

    The product of all generators and the first negative control are written as whole models. Otherwise only tensors
    that change are passed to a session in memory, provided that it equals the written models in every bit of their
    tensors and outputs. A failure is confirmed in the written model.

    Negative controls: changes that are not symmetries are run as well. One of them must change an output by ten times
    its tolerance; otherwise the check is undecided.

    What cannot be checked (ONNX Runtime lacks an operator, an output is not finite or not reproducible) is listed in
    `Report.skipped`.

    Args:
        model: An ONNX model, or the path of one.
        trials: Number of products of generators to run.
        seed: Seed of everything random.
        inputs: Arrays by input name, run in addition to random inputs. Lowering uses their shapes; integers among them
            are also combined with random floats.
        shapes: Shapes by input name, the option `inputs` of `gmnc.compile`.
        kinds: Kinds of symmetries to check: "permutation", "sign", "scale", "orthogonal", "linear".
        tolerance: Allowed relative change of all outputs. By default it depends on the float types in which an output
            is computed and on the depth, and is raised to the network's own amplification of rounding.
        controls: Number of negative controls of each form.
        timeout: Time limit of a run in seconds, in a child process that may crash; "auto" for 120, less if a Loop may
            be endless; None for no limit, in this process.
        on_progress: Called with (activity, steps done, steps in total).
        **options: Further options of `gmnc.compile` (`dims`, `registry`, ...).

    Returns:
        The report.

    Raises:
        GmncError: The model cannot be compiled, or a kind or an input is unknown.
    """
    kinds = checked_kinds(kinds)
    report = on_progress or (lambda what, done, total: None)
    report("lowering", 0, trials)
    given = {n: np.asarray(v) for n, v in (inputs or {}).items()}
    shapes = {**{n: v.shape for n, v in given.items()}, **(shapes or {})}
    graph = compile(model, inputs=shapes, **options)
    report("finding symmetries", 0, trials)
    claims = symmetries(graph, kinds)
    claimed = {k: len(claims.generators) for k in kinds if k == "permutation"}
    claimed |= {r.kind: r.dimension for r in claims.others}
    check = _Check(graph, claims, any(claimed.values()), report)
    size = sum(p.size * 4 for p in graph.parameters.values())
    if timeout == "auto":
        assert isinstance(graph.model, onnx_ir.Model)
        timeout = default_timeout(graph.model, size)
    runner: Runner = InProcess() if timeout is None else ChildProcess(timeout, size)
    report("drawing inputs", 0, trials)
    try:
        rng = np.random.default_rng(seed)
        trial, check.reacting = responsive_trial(model, graph, given, shapes, options, rng, runner, tolerance)
        trial.allow_rounding({graph.parameters[n].dtype for m in claims.mixings for n in m.parameters})
        check.run(trial, trials, controls, options.get("registry"))
    except NotRunnable as reason:
        check.skipped.append(f"the network: {reason}")
    finally:
        runner.close()
    report("writing back", trials, trials)
    worst = check.worst(tolerance or tolerance_of(graph))
    return Report(
        sound=check.verdict(),
        trials=check.trials,
        generators=sum(claimed.values()),
        moved_parameters=check.moved,
        max_error=worst.error,
        tolerance=worst.tolerance,
        sensitivity=worst.sensitivity,
        reacting=check.reacting,
        tried=check.tried,
        detected=check.detected,
        round_trip=round_trip(graph, shapes, options, seed),
        account_closed=_account_closed(graph),
        skipped=tuple(check.skipped),
        failures=tuple(check.failures),
        graph=graph,
        kinds=claimed,
        outputs=check.outputs(),
    )


@dataclass
class _Check:
    """The findings so far. errors, sensitivity: per output, the largest change by a claim and by a control."""

    graph: ParameterGraph
    claims: Symmetries
    claimed: bool
    on_progress: Progress
    trial: Trial | None = None
    skipped: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    trials: int = 0
    moved: int = 0
    reacting: float | None = None
    tried: int = 0
    detected: int = 0
    errors: Errors = field(default_factory=dict)
    sensitivity: Errors = field(default_factory=dict)

    def run(self, trial: Trial, trials: int, controls: int, registry: Any) -> None:
        """Run the claims and the negative controls."""
        self.trial = trial
        self.skipped += trial.skipped
        self.unread(trial)
        self.run_products(trial, trials if self.claimed and trial.names else 0, registry)
        self.controls(trial, controls)
        if self.claimed and trial.names and not self.failures and not self._is_sensitive():
            self.skipped.append(self._why_undecided())

    def unread(self, trial: Trial) -> None:
        """Change all tensors that the account calls dead or never read: no output may change."""
        parameters = self.graph.parameters
        whole = {e.name for e in self.graph.account if e.where in UNREAD and e.count == parameters[e.name].size}
        names = [n for n in sorted(whole) if parameters[n].storage is None and parameters[n].load().dtype.kind == "f"]
        if not names or not trial.names:
            return
        errors = trial.errors({n: shuffled(parameters[n].load(), trial.rng) for n in names})
        if trial.excess(errors) > 1:
            self.failures = [Failure(max(errors.values()), ", ".join(names), claim=_NEVER_READ), *self.failures]

    def run_products(self, trial: Trial, trials: int, registry: Any) -> None:
        """Run products of generators, and bisect the first one that fails."""
        failing: Sequence[Generator] = ()
        for number in range(trials):
            self.on_progress("changing parameters", number, trials)
            some = self._draw_generators(trial.rng, every=number == 0)
            changes = product(self.graph, some).apply(trial.values)
            # The first product is written, to show that runs in memory give the same.
            errors = trial.errors(changes, written=number == 0)
            if number and not trial.excess(errors) < 1:
                errors = trial.errors(changes, written=True)
            self.trials += 1
            self.moved = max(self.moved, trial.changed(changes))
            _update_maxima(self.errors, errors)
            if not trial.excess(errors) < 1:
                trial.widen()
            if not trial.excess(errors) < 1 and not failing:
                failing = some
        if failing:
            self.on_progress("looking for the cause", trials, trials)
            self.failures += culprits(trial, failing, registry)

    def controls(self, trial: Trial, each: int) -> None:
        """Run up to four rounds of negative controls until one is detected; none if no output depends on parameters."""
        if not trial.names or all(any(f"{n!r}: it does not" in s for s in trial.skipped) for n in trial.names):
            return
        for _ in range(_ROUNDS):
            for changes in negative(self.graph, trial.values, trial.rng, each, self.claims):
                self.on_progress("negative controls", self.tried, max(3 * each, self.tried))
                self.tried += 1
                errors = trial.errors(changes, written=self.tried == 1)
                self.detected += trial.excess(errors) > 1
                _update_maxima(self.sensitivity, errors)
            if self._is_sensitive() or not self.tried:
                return

    def verdict(self) -> bool | None:
        """Whether the claims hold; None if undecided."""
        if self.failures:
            return False
        if self.trial is None or not self.trial.names:
            return None
        return True if not self.claimed or self._is_sensitive() else None

    def worst(self, otherwise: float) -> OutputCheck:
        """The output whose error is closest to its tolerance, or, without errors, the most sensitive one."""
        every = self.outputs().values()
        best = max(every, key=lambda o: (o.error / o.tolerance, o.sensitivity / o.tolerance), default=None)
        return best or OutputCheck(0.0, otherwise, 0.0)

    def outputs(self) -> dict[str, OutputCheck]:
        """Error, tolerance and sensitivity of every output that is compared."""
        if self.trial is None:
            return {}
        tolerances = self.trial.tolerances
        return {
            n: OutputCheck(self.errors.get(n, 0.0), tolerances[n], self.sensitivity.get(n, 0.0))
            for n in sorted(self.trial.names)
        }

    def _is_sensitive(self) -> bool:
        return self.trial is not None and self.trial.excess(self.sensitivity) >= _CLEARLY

    def _why_undecided(self) -> str:
        if not self.tried:
            return "cannot tell: there are no negative controls to show that the outputs would change"
        worst = self.worst(0.0)
        return (
            f"cannot tell: none of {self.tried} negative controls changes an output by ten times its tolerance "
            f"(at most {worst.sensitivity:.2g}, with a tolerance of {worst.tolerance:.2g}); give other inputs with "
            "--inputs"
        )

    def _draw_generators(self, rng: np.random.Generator, every: bool) -> list[Generator]:
        found: list[Generator] = []
        if "permutation" in self.claims.kinds:
            found += [self.claims.generators[i] for i in rng.permutation(len(self.claims.generators))]
        for group in self.claims.others:
            found += group.generators(rng)
        return [g for g in found if every or rng.random() < 0.5]


def _update_maxima(found: Errors, errors: Errors) -> None:
    for name, error in errors.items():
        found[name] = max(found.get(name, 0.0), error)


def _account_closed(graph: ParameterGraph) -> bool:
    try:
        graph.check()
    except GraphError:
        return False
    return graph.num_parameter_edges + sum(e.count for e in graph.account) == graph.num_parameters
