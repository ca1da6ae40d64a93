"""What a generator is tuned over: its space, its defaults, and which of its parameters matter."""

from __future__ import annotations

import inspect
from typing import Any

import generators


def space(name: str) -> list[dict[str, Any]]:
    """A generator's tuning space: parameter, kind, low, high, log, choices, default. Empty where it has none."""
    known, kinds = defaults(name), {"FloatDistribution": "float", "IntDistribution": "int"}
    return [
        {
            "parameter": parameter,
            "kind": kinds.get(type(d).__name__, "choice"),
            "choices": list(getattr(d, "choices", ())),
            **{k: getattr(d, k, None) for k in ("low", "high", "log")},
            "default": known.get(parameter),
        }
        for parameter, d in distributions(name).items()
    ]


def importances(name: str, trials: list[dict[str, Any]]) -> dict[str, float]:
    """How much of the variation of the first aim each parameter accounts for (fANOVA), over trials that have a value.

    Empty where they are fewer than five or all alike.
    """
    import optuna

    scored = [t for t in trials if t["values"]]
    values = {t["values"][0] for t in scored}
    if len(scored) < 5 or len(values) < 2:
        return {}
    ranges = distributions(name)
    study = optuna.create_study(direction="maximize")
    for t in scored:
        study.add_trial(
            optuna.create_trial(
                params=t["params"], distributions={k: ranges[k] for k in t["params"]}, value=t["values"][0]
            )
        )
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
    except (ValueError, RuntimeError):  # a parameter that is not in every trial
        return {}
    return {k: float(v) for k, v in found.items()}


def distributions(name: str) -> dict[str, Any]:
    """Optuna's distribution of each parameter of a generator's tuning space. Empty where it has none."""
    import optuna

    cls: Any = generators.load_class(generators.find(name).load)
    if not hasattr(cls, "suggest"):
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found: dict[str, Any] = {}
    for _ in range(20):  # a space may branch
        trial = study.ask()
        cls.suggest(trial)
        found |= trial.distributions
    return found


def defaults(name: str) -> dict[str, Any]:
    """Constructor defaults of a generator's parameters."""
    parameters = inspect.signature(generators.load_class(generators.find(name).load)).parameters
    return {k: p.default for k, p in parameters.items() if p.default is not p.empty}
