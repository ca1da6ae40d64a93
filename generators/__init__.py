"""REGISTRY: every generator as one row. `make(name, **params)` builds one, a registered one or `package.module:Class`.

Importing this package loads no model library: a row names its class, and the class is imported when it is made.
"""

import ast
import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ALL = ("codes", "table", "series", "visits")


@dataclass(frozen=True)
class Row:
    """One row of REGISTRY.

    load: "module:Class". family: "reference", "diffusion", "classical" and so on. native: shapes it was made for (it
    runs on every shape; the board marks the others). extra: the optional dependency it needs, the name of our extra and
    of the package alike. version: raised when its results change. handed: constructor arguments the harness supplies.
    gpu: whether it fits and samples on a GPU where there is one. held_out: share of train on which it chooses its
    training step, and which it never trains on.
    """

    name: str
    load: str
    family: str
    native: tuple[str, ...]
    about: str
    reference: str
    version: int = 1
    extra: str | None = None
    handed: tuple[str, ...] = field(default=())
    gpu: bool = False
    held_out: float = 0.0


_ROWS = (
    Row(
        "copycat", "generators.reference:Copycat", "reference", ALL, "train itself, in random order",
        "ceiling of fidelity and utility, alarm of privacy",
    ),
    Row(
        "marginal", "generators.reference:Marginal", "reference", ALL, "independent columns with train's values",
        "floor of joint scores",
    ),
    Row(
        "uniform", "generators.reference:Uniform", "reference", ALL, "independent columns, uniform over their levels",
        "floor of one-column scores", version=2,
    ),
    Row(
        "oracle", "generators.reference:Oracle", "reference", ALL, "a fresh draw from the known process",
        "ceiling of everything, on simulated data", handed=("redraw",),
    ),
    Row(
        "smote", "generators.smote:Smote", "interpolation", ("table", "series"),
        "interpolates between neighbours of one class", "Chawla et al. 2002, doi:10.1613/jair.953; imbalanced-learn",
        version=3,
    ),
    Row(
        "gan", "generators.gan:GAN", "GAN", ("codes", "table", "series"), "conditional Wasserstein GAN, by shape",
        "Xu et al. 2019, arXiv:1907.00503; Zhang et al. 2020, doi:10.1093/jamia/ocz161", version=3, gpu=True,
        held_out=0.1,
    ),
    Row(
        "ctgan", "generators.ctgan:CTGAN", "GAN", ("table",),
        "the ctgan library's own (Business Source Licence; needs pandas before 3)", "Xu et al. 2019, arXiv:1907.00503",
        extra="ctgan", gpu=True,
    ),
    Row(
        "bart", "generators.bart:BART", "language model", ("visits", "codes"),
        "BART the sequence model: a subject is a sentence of codes", "Lewis et al. 2020, arXiv:1910.13461; "
        "Wang and Sun 2022, arXiv:2211.01761", version=2, gpu=True, held_out=0.1,
    ),
    Row(
        "mixture", "generators.classical:Mixture", "classical", ("codes", "table"), "latent classes, fitted by EM",
        "Lazarsfeld and Henry 1968; Dempster et al. 1977, doi:10.1111/j.2517-6161.1977.tb01600.x", version=3,
    ),
    Row(
        "gaussian", "generators.gaussian:Gaussian", "classical", ALL, "a Gaussian per class, behind monotone scales",
        "Liu, Lafferty and Wasserman 2009, JMLR 10:2295; Fan et al. 2017, doi:10.1111/rssb.12168", version=4,
    ),
    Row(
        "ou", "generators.diffusion.ou:OU", "diffusion", ("table",), "Ornstein-Uhlenbeck diffusion, class-conditional",
        "Le 2024, arXiv:2412.10948", version=5, gpu=True, held_out=0.1,
    ),
    Row(
        "tardiff", "generators.diffusion.tardiff:TarDiff", "diffusion", ("series",),
        "diffusion of signals, class-conditional; guided by influence on a downstream model",
        "Deng et al. 2025, arXiv:2504.17613", version=7, gpu=True, held_out=0.05,
    ),
    Row(
        "ehr-d3pm", "generators.diffusion.ehr_d3pm:EHRD3PM", "diffusion", ("codes", "visits"),
        "multinomial diffusion over tokens, guided without retraining", "Han et al. 2024, arXiv:2404.12314",
        version=2, gpu=True, held_out=0.1,
    ),
    Row(
        "healthforge", "generators.diffusion.healthforge:HealthForge", "diffusion", ("codes",),
        "latent diffusion under a sentence, class-conditional; answers prompts", "UofT-CSC490-F2025/health-forge",
        version=4, gpu=True, held_out=0.1,
    ),
)  # fmt: skip

REGISTRY: Mapping[str, Row] = {row.name: row for row in _ROWS}
# downstream models of tables that live with the generators: what metrics are handed, by shape
JUDGES: Mapping[str, Mapping[str, str]] = {"series": {"timesnet": "generators.diffusion.timesnet:TimesNetJudge"}}


def find(name: str) -> Row:
    """The row of a registered name, or a row made up for `package.module:Class`. ValueError where neither exists."""
    if name in REGISTRY:
        return REGISTRY[name]
    if ":" in name:
        load_class(name)
        return Row(name, name, "yours", ALL, "a generator of yours", "", gpu=True)
    near = get_close_matches(name, REGISTRY, n=1)
    hint = f" did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"unknown generator '{name}':{hint} known: {', '.join(sorted(REGISTRY))}, or package.module:Class")


def absence(row: Row) -> str:
    """Why a row cannot run on this machine: its extra is not installed; "" where it can."""
    if row.extra is None or find_spec(row.extra) is not None:
        return ""
    return f"needs the package {row.extra}: pip install 'synth-health-bench[{row.extra}]'"


def load_class(path: str) -> type:
    """The class that "package.module:Class" names. Raises ValueError where it cannot be imported or lacks the verbs."""
    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ValueError(f"generator '{path}': no module named '{error.name}'") from error
    except AttributeError as error:
        raise ValueError(f"generator '{path}': module '{module}' has no '{name}'") from error
    lacks = [verb for verb in ("fit", "sample") if not callable(getattr(found, verb, None))]
    if not inspect.isclass(found) or lacks:
        raise ValueError(
            f"generator '{path}': expected a class with fit and sample, it lacks {' and '.join(lacks) or 'both'}"
        )
    return found


def judges(shape: str) -> dict[str, type]:
    """Classes of the downstream models for tables of a shape, by name; imported now."""
    paths = {name: path.partition(":") for name, path in JUDGES.get(shape, {}).items()}
    return {name: getattr(import_module(module), cls) for name, (module, _, cls) in paths.items()}


def make(name: str, **params: Any) -> Any:
    """A new generator with these hyperparameters. ValueError names an unknown parameter and the known ones."""
    check(name, params)
    return load_class(find(name).load)(**params)


def check(name: str, params: Mapping[str, Any]) -> None:
    """Raise ValueError where a name or a parameter is not known; a registered class is not imported for it."""
    find(name)
    known = parameters(name)
    at_sample(name)
    strange = sorted(set(params) - set(known))
    if strange:
        near = get_close_matches(strange[0], known, n=1)
        hint = f" did you mean '{near[0]}'?" if near else ""
        raise ValueError(
            f"generator '{name}' has no parameter '{strange[0]}':{hint} known: {', '.join(known) or 'none'}"
        )


def parameters(name: str) -> list[str]:
    """The names of a generator's constructor parameters; a registered one's are read from its source."""
    if name not in REGISTRY:
        return [p for p in inspect.signature(load_class(name)).parameters if p not in ("args", "kwargs")]
    inits = [f for f in _body(REGISTRY[name].load) if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
    return [a.arg for f in inits for a in (*f.args.args[1:], *f.args.kwonlyargs)]


def at_sample(name: str) -> tuple[str, ...]:
    """A generator's AT_SAMPLE: the constructor parameters that its `fit` does not read; a registered one's is read from
    its source. ValueError where it is no tuple, or names what is no parameter."""
    if name in REGISTRY:
        named = _value(REGISTRY[name].load, "AT_SAMPLE") or ()
    else:
        named = getattr(load_class(name), "AT_SAMPLE", ())
    if not isinstance(named, tuple):
        raise ValueError(f"generator '{name}': AT_SAMPLE is {named!r}, expected a tuple of names")
    known = parameters(name)
    strange = [n for n in named if n not in known]
    if strange:
        raise ValueError(
            f"generator '{name}': AT_SAMPLE names '{strange[0]}', which is no constructor parameter: "
            f"known: {', '.join(known) or 'none'}"
        )
    return named


def tunable(name: str) -> bool:
    """Whether a generator has a tuning space; of a registered one it is read from its source."""
    if name in REGISTRY:
        return any(isinstance(f, ast.FunctionDef) and f.name == "suggest" for f in _body(REGISTRY[name].load))
    return any("suggest" in vars(c) for c in load_class(name).__mro__ if c.__module__ != "generators.base")


@cache
def _body(load: str) -> list[ast.stmt]:
    """What stands in a class of ours, read without importing it."""
    module, _, cls = load.partition(":")
    spec = find_spec(module)
    tree = ast.parse(Path(str(spec.origin)).read_text(encoding="utf-8")) if spec else ast.Module([], [])
    return [s for c in tree.body if isinstance(c, ast.ClassDef) and c.name == cls for s in c.body]


def _value(load: str, name: str) -> Any:
    """What a class of ours sets a name to, None where it does not."""
    for s in _body(load):
        if isinstance(s, ast.Assign | ast.AnnAssign) and s.value is not None:
            targets = s.targets if isinstance(s, ast.Assign) else [s.target]
            if name in map(ast.unparse, targets):
                return ast.literal_eval(s.value)
    return None


def version(name: str) -> str:
    """What a cell's key says of the generator's code: a row's version, or a hash of the user's module."""
    if name in REGISTRY:
        return str(REGISTRY[name].version)
    source = inspect.getsourcefile(load_class(name))
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12] if source else "unknown"
