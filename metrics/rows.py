"""METRICS: every score as one frozen row, and what is measured as cost."""

from collections.abc import Mapping
from dataclasses import dataclass

ALL = ("codes", "table", "series", "visits")
CODES = ("codes", "visits")
UP, DOWN = ("_score", "_auroc", "_auprc", "_f1"), ("_gap", "_error", "_distance", "_risk")
CHANCE = "chance"  # a floor that no generator has to show: what is known without any data


@dataclass(frozen=True)
class Metric:
    """One row of METRICS.

    load: "module:function". family: fidelity, utility, privacy (ranked ones make the family means), guidance, control,
    published (a published variant: computed where a suite names it). low, high: range of possible values. shapes:
    where it is defined. floor: the reference generator that it is 0 at when normalised, or CHANCE: an AUROC of ½, an
    average precision of the holdout's prevalence (None: not normalised, not ranked).
    cost: growth in n subjects (m in holdout), d columns. fooled: what gets a good value without deserving it. null: the
    value that means no risk, for privacy. minority: whether it reads drawn positives beside the plain sample. version:
    raised with a change.
    """

    name: str
    load: str
    family: str
    low: float
    high: float
    shapes: tuple[str, ...]
    floor: str | None
    about: str
    cost: str
    fooled: str
    reference: str
    null: float | None = None
    minority: bool = False
    version: int = 2

    @property
    def up(self) -> bool:
        """True where more is better."""
        return self.name.endswith(UP)

    @property
    def ranked(self) -> bool:
        """True where it takes part in its family's mean."""
        return self.floor is not None

    @property
    def proof(self) -> str:
        """Which reference rows show that it measures what it says."""
        if self.family == "privacy":
            return "`copycat` worst, `oracle` and `marginal` 0"
        if self.floor:
            floor = "`marginal` near chance" if self.floor == CHANCE else f"`{self.floor}` clearly worse"
            return f"`oracle` best, {floor}"
        return ""


_INF = float("inf")
_YAN = "Yan et al. 2022, doi:10.1038/s41467-022-35295-1"
_LE = "Le 2024, arXiv:2412.10948"
_DISTANCE = "a memoriser that adds noise wider than the gaps between subjects"
_ONE = "independent columns (`marginal` is at its ceiling)"

_FIDELITY = (
    Metric("prevalence_pearson_score", "codes:prevalence_pearson", "fidelity", -1, 1, CODES, "uniform",
           "Pearson correlation over codes of their prevalence in synth and holdout", "n d",
           f"{_ONE}; a few right common codes", "Yuan et al. 2023 (EHRDiff)", version=3),
    Metric("prevalence_spearman_score", "codes:prevalence_spearman", "fidelity", -1, 1, CODES, "uniform",
           "Spearman correlation over codes of their prevalence in synth and holdout", "n d", _ONE,
           "Han et al. 2024 (EHR-D3PM)", version=3),
    Metric("prevalence_rare_spearman_score", "codes:prevalence_rare_spearman", "fidelity", -1, 1, CODES, "uniform",
           "the same over codes with 0 < prevalence in train <= 1 %", "n d",
           f"{_ONE}; and noise of holdout's counts keeps even train far from 1", "defined here"),
    Metric("prevalence_rare_denoised_score", "codes:prevalence_rare_denoised", "fidelity", -2, 2, CODES, "uniform",
           "Pearson correlation of those codes' stabilised counts, over the root of holdout's reliability", "n d", _ONE,
           "Spearman 1904 (attenuation); Freeman and Tukey 1950"),
    Metric("prevalence_logodds_error", "codes:prevalence_logodds", "fidelity", 0, _INF, CODES, "uniform",
           "mean absolute difference of log odds over codes, counts + 1/2; and by prevalence in train", "n d", _ONE,
           "defined here"),
    Metric("code_coverage_gap", "codes:code_coverage", "fidelity", 0, 1, CODES, None,
           "share of codes seen in holdout and never in synth", "n d",
           "too many of every code (`uniform` is at 0): not ranked", "defined here"),
    Metric("mcad_distance", "codes:mcad", "fidelity", 0, 1, CODES, "marginal",
           "half the L1 distance of the 20-bin histograms of codes per subject", "n d",
           "any codes in the right number", _YAN),
    Metric("cmd_distance", "pairs:cmd", "fidelity", 0, 2, ALL, "marginal",
           "mean absolute difference of correlations over column pairs, synth against holdout", "n d²",
           "sampling noise, which most pairs of rare codes are: a copy is hardly told from `marginal`", "defined here"),
    Metric("cmd_frobenius_distance", "pairs:cmd_frobenius", "fidelity", 0, 2, ALL, "marginal",
           "Frobenius norm of the difference of correlation matrices over d", "n d²", "the same", "defined here"),
    Metric("cmd_denoised_distance", "pairs:cmd_denoised", "fidelity", -4, 4, ALL, "marginal",
           "mean squared difference of correlations less its sampling noise, pairs weighted by expected count", "n d²",
           "what only rare codes do", "defined here"),
    Metric("pair_tvd_gap", "pairs:pair_tvd", "fidelity", 0, 1, ALL, "marginal",
           "mean over column pairs of the total variation of their joint tables; numbers at train's deciles", "n d²",
           "dependence among three and more columns", "defined here"),
    Metric("mmd_distance", "joint:mmd", "fidelity", -1, 2, ALL, "marginal",
           "unbiased MMD², RBF kernel at train's median distance", "n² d",
           "rare modes: in many columns all distances are alike", "Gretton et al. 2012, JMLR 13:723"),
    Metric("dimension_prediction_f1_gap", "dimension:f1", "fidelity", -1, 1, ("codes",), "marginal",
           "30 highest-entropy codes, each predicted from all other columns: mean F1 of a model of half of holdout - "
           "of one of as many synth subjects, on the other half", "m d, 120 regressions solved together",
           "codes that nothing predicts", "Choi et al. 2017 (medGAN)"),
    Metric("dimension_prediction_auroc_gap", "dimension:auroc", "fidelity", -1, 1, ("codes",), "marginal",
           "the same with AUROC", "m d, shared", "codes that nothing predicts", "Choi et al. 2017 (medGAN)"),
    Metric("ks_gap", "columns:ks", "fidelity", 0, 1, ALL, "uniform",
           "mean Kolmogorov-Smirnov distance over numeric columns", "n log n d", _ONE, "scipy.stats.ks_2samp"),
    Metric("wasserstein_distance", "columns:wasserstein", "fidelity", 0, _INF, ALL, "uniform",
           "mean W1 distance over numeric columns, each over train's scale", "n log n d", _ONE,
           "scipy.stats.wasserstein_distance"),
    Metric("tvd_gap", "columns:tvd", "fidelity", 0, 1, ALL, "uniform",
           "mean total variation over category and bool columns", "n d", _ONE, "defined here"),
    Metric("missing_rate_gap", "columns:missing", "fidelity", 0, 1, ALL, "uniform",
           "mean absolute difference of missing rates over columns with gaps", "n d", _ONE, "defined here"),
    Metric("c2st_auroc_gap", "joint:c2st", "fidelity", -1, 1, ALL, "marginal",
           "2 AUROC - 1 of gradient-boosted trees telling synth from holdout, 5-fold", "m d",
           "a copy of train; one tell-tale decimal, on the other hand, gives a good synth away",
           "Lopez-Paz and Oquab 2017", version=3),
    Metric("alpha_precision_score", "joint:alpha_precision", "fidelity", 0, 1, ALL, "marginal",
           "1 - 2 ∫|share of synth inside holdout's alpha-ball - alpha|, on the encoded matrix", "n d",
           "any shell with the right radii; in many columns `marginal` has them",
           "Alaa et al. 2022, arXiv:2102.08921"),
    Metric("beta_recall_score", "joint:beta_recall", "fidelity", 0, 1, ALL, "marginal",
           "1 - 2 ∫|share of holdout covered by synth's beta-ball - beta|, on the encoded matrix", "m n d",
           "a copy of train; its ideal depends on the sizes of synth and holdout and is not 1",
           "Alaa et al. 2022, arXiv:2102.08921"),
    Metric("autocorrelation_gap", "series:autocorrelation", "fidelity", 0, 2, ("series",), "marginal",
           "mean absolute difference of autocorrelations over channels and lags 1 to l/4", "n l² c",
           "dependence between channels", "Liao et al. 2020"),
    Metric("cross_correlation_gap", "series:cross_correlation", "fidelity", 0, 2, ("series",), "marginal",
           "mean absolute difference of correlations between channels at the same step", "n l c²",
           "dependence in time", "Liao et al. 2020"),
    Metric("visits_ks_gap", "series:visits_ks", "fidelity", 0, 1, ("visits",), "uniform",
           "KS distance of visits per subject", "n", "any codes in the right visits", "defined here"),
    Metric("codes_per_visit_ks_gap", "series:codes_per_visit_ks", "fidelity", 0, 1, ("visits",), "marginal",
           "KS distance of codes per visit", "n d", "any codes in the right number", "defined here"),
    Metric("cooccurrence_r2_score", "series:cooccurrence", "fidelity", -_INF, 1, ("visits",), "marginal",
           "R² of the probabilities of two codes in one visit, train's 100 commonest", "n d",
           "independent columns, which get the common pairs right that decide it", "Theodorou et al. 2023 (HALO)"),
    Metric("transition_r2_score", "series:transition", "fidelity", -_INF, 1, ("visits",), "marginal",
           "R² of the probabilities of a code in one visit and another in the next", "n d", "the same",
           "Theodorou et al. 2023 (HALO)"),
)  # fmt: skip

_JUDGES = "judges (XGBoost, random forest, logistic regression; on series XGBoost and TimesNet)"
_UTILITY = (
    Metric("trtr_auroc", "utility:trtr_auroc", "control", 0, 1, ALL, None,
           f"AUROC on holdout of {_JUDGES} fitted on train: the ceiling of TSTR", "n d", "", "defined here",
           version=4),
    Metric("trtr_auprc", "utility:trtr_auprc", "control", 0, 1, ALL, None,
           "average precision on holdout of judges fitted on train", "n d", "", "defined here", version=4),
    Metric("trtr_weighted_auroc", "utility:trtr_weighted_auroc", "control", 0, 1, ALL, None,
           "AUROC on holdout of judges fitted on train with classes weighted alike", "n d", "", "defined here",
           version=3),
    Metric("trtr_weighted_auprc", "utility:trtr_weighted_auprc", "control", 0, 1, ALL, None,
           "average precision of the same", "n d", "", "defined here", version=3),
    Metric("prevalence_holdout", "utility:prevalence", "control", 0, 1, ALL, None,
           "share of positives in holdout: the average precision of a guess", "n", "", "defined here"),
    Metric("tstr_auroc", "utility:tstr_auroc", "utility", 0, 1, ALL, CHANCE,
           "AUROC on holdout of judges fitted on synth; mean over judges, and each", "n d", "a copy of train",
           "Esteban et al. 2017", version=4),
    Metric("tstr_auprc", "utility:tstr_auprc", "utility", 0, 1, ALL, CHANCE,
           "average precision on holdout of judges fitted on synth", "n d", "a copy of train",
           "Esteban et al. 2017", version=4),
    Metric("tstr_brier_error", "utility:tstr_brier", "utility", 0, 1, ALL, None,
           "mean squared difference of probability and outcome on holdout, judges fitted on synth", "n d",
           "rare targets: predicting nobody is already small", "Brier 1950", version=3),
    Metric("tstr_calibration_error", "utility:tstr_calibration", "utility", 0, 1, ALL, None,
           "mean gap of probability and outcome over ten bins of equal size, judges fitted on synth", "n d",
           "the same probability for everyone", "Naeini et al. 2015", version=3),
    Metric("recall_at_precision_score", "utility:recall_at_precision", "utility", 0, 1, ALL, "marginal",
           "highest recall on holdout at a precision of 0.9 or more, judges fitted on synth", "n d",
           "few positives: one lucky top score", "defined here", version=3),
    Metric("tsrtr_auroc", "utility:tsrtr_auroc", "utility", -1, 1, ALL, None,
           "AUROC of XGBoost fitted on train and the first alpha n subjects of synth, and its gain over alpha 0", "n d",
           "rebalancing of classes alone", "TarDiff, arXiv:2504.17613"),
    Metric("tsrtr_auprc", "utility:tsrtr_auprc", "utility", -1, 1, ALL, None,
           "average precision of the same", "n d", "rebalancing of classes alone", "TarDiff, arXiv:2504.17613"),
    Metric("boost_recall_score", "boost:recall", "utility", -1, 1, ALL, None,
           "recall on holdout after adding synthetic positives to train, and its gain over none", "n d",
           "a lower threshold: read it with precision", _LE, minority=True, version=3),
    Metric("boost_precision_score", "boost:precision", "utility", -1, 1, ALL, None,
           "precision on holdout after adding synthetic positives to train, and its gain over none", "n d",
           "flagging hardly anyone", _LE, minority=True, version=3),
    Metric("boost_f1_score", "boost:f1", "utility", -1, 1, ALL, None,
           "F1 on holdout after adding synthetic positives to train, and its gain over none", "n d",
           "what class weights or a moved threshold do as well: read it beside those controls", _LE, minority=True,
           version=3),
    Metric("boost_auroc", "boost:auroc", "utility", -1, 1, ALL, None,
           "AUROC on holdout after adding synthetic positives to train, and its gain over none", "n d",
           "a copy of train's positives", "EHR-D3PM, arXiv:2404.12314", minority=True),
    Metric("balanced_tstr_auroc", "boost:balanced_auroc", "utility", -1, 1, ALL, None,
           "AUROC on holdout of judges fitted on synth with drawn positives added until balance, and its gain",
           "n d", "rebalancing alone: read it beside class weights", "EHR-D3PM, arXiv:2404.12314", minority=True),
    Metric("balanced_tstr_auprc", "boost:balanced_auprc", "utility", -1, 1, ALL, None,
           "average precision of the same", "n d", "rebalancing alone: read it beside class weights",
           "EHR-D3PM, arXiv:2404.12314", minority=True),
    Metric("boost_auprc", "boost:auprc", "utility", -1, 1, ALL, None,
           "average precision on holdout after adding synthetic positives to train, and its gain over none", "n d",
           "a copy of train's positives", _LE, minority=True),
)  # fmt: skip

_PRIVACY = (
    Metric("air_excess_risk", "attributes:air_excess", "privacy", -1, 1, ALL, "copycat",
           "attribute inference on train minus on as many of holdout", "m n d", _DISTANCE, _YAN, null=0.0, version=3),
    Metric("mir_excess_risk", "privacy:mir_excess", "privacy", -1, 1, ALL, "copycat",
           "membership inference F1 minus that of as many flags dealt at random", "m n d", _DISTANCE, _YAN, null=0.0,
           version=3),
    Metric("mia_distance_auroc_gap", "privacy:mia_distance", "privacy", -1, 1, ALL, "copycat",
           "2 AUROC - 1 of nearness to synth, members against non-members", "m n d", _DISTANCE,
           "defined here", null=0.0, version=3),
    Metric("mia_density_auroc_gap", "privacy:mia_density", "privacy", -1, 1, ALL, "copycat",
           "2 AUROC - 1 of mean log d_j(x, reference) - log d_j(x, synth), j = 1 to 5, members against others", "m n d",
           _DISTANCE,
           "after DOMIAS, van Breugel et al. 2023, arXiv:2302.12580", null=0.0),
    Metric("mia_tpr_at_1fpr_risk", "privacy:mia_tpr", "privacy", -1, 1, ALL, "copycat",
           "true-positive rate at 1 % false positives, the better of the two attacks, less its permuted mean", "m n d",
           _DISTANCE, "Carlini et al. 2022, arXiv:2112.03570", null=0.0),
    Metric("nnaa_risk", "privacy:nnaa", "privacy", -1, 1, ALL, "copycat",
           "nearest-neighbour adversarial accuracy on holdout minus on train, each with as many synth subjects",
           "n² d, 20,000 subjects a side at most", _DISTANCE,
           "Yale et al. 2020, doi:10.1016/j.neucom.2019.12.136", null=0.0),
    Metric("copy_risk", "privacy:copies", "privacy", -1, 1, ALL, None,
           "share of synth found in train minus share of holdout found in train", "n d",
           "any noise on one column: a diagnosis of duplicates, not ranked", "defined here", null=0.0),
    Metric("dcr_share_risk", "privacy:dcr_share", "privacy", -1, 1, ALL, None,
           "share of synth closer to a part of train of holdout's size than to holdout, minus 1/2; ties half", "m n d",
           f"{_DISTANCE}: a diagnosis of duplicates, not ranked", "defined here; arXiv:2505.01524", null=0.0),
    Metric("air_train", "attributes:air_train", "control", 0, 1, ALL, None, "attribute inference F1 on train", "m n d",
           "", _YAN),
    Metric("air_holdout", "attributes:air_holdout", "control", 0, 1, ALL, None, "attribute inference F1 on holdout",
           "m n d", "", _YAN),
    Metric("mir_f1", "privacy:mir_f1", "control", 0, 1, ALL, None,
           "membership inference F1 at a threshold learned on a tenth", "m n d", "", _YAN),
)  # fmt: skip

_GUIDANCE = (
    Metric("condition_rate_score", "guidance:rate", "guidance", 0, 1, ALL, None,
           "share of the subjects drawn for a condition that satisfy it", "n", "copies, clamped columns",
           "defined here", minority=True),
    Metric("condition_prevalence_error", "guidance:prevalence", "guidance", 0, _INF, ALL, None,
           "mean absolute log-odds difference of the other flags, against real subjects who satisfy the condition",
           "n d", "copies", "defined here", minority=True),
    Metric("condition_cmd_distance", "guidance:cmd", "guidance", 0, 2, ALL, None,
           "cmd of the other columns against real subjects who satisfy the condition, 500 or more", "n d²", "copies",
           "defined here", minority=True),
    Metric("prompt_accuracy_score", "guidance:prompt_accuracy", "guidance", 0, 1, ALL, None,
           "mean share of a prompt's structured expectations that its samples meet", "n",
           "common answers: read it with the gain", "defined here; HealthForge's substring test rebuilt"),
    Metric("prompt_gain_score", "guidance:prompt_gain", "guidance", -1, 1, ALL, None,
           "that accuracy minus the accuracy of samples drawn for other prompts", "n", "", "defined here"),
)  # fmt: skip

_PUBLISHED = (
    Metric("mir_yan_f1", "published:mir_yan", "published", 0, 1, ALL, None,
           "F1 of squared distance <= 5 over all of train and holdout, as published: no control", "n² d",
           "any change of density or of sizes: blind to a copy on sparse codes", _YAN),
    Metric("air_yan_f1", "published:air_yan", "published", 0, 1, CODES, None,
           "attribute inference F1 over all of train with 256 codes known, as published: no control", "n² d",
           "good utility raises it", _YAN),
    Metric("mir_halo_f1", "published:mir_halo", "published", 0, 1, ALL, None,
           "F1 of distance below the median, balanced", "m n d", "1/2 at chance, and at a copy of few",
           "Theodorou et al. 2023 (HALO), released code"),
    Metric("mir_healthforge_accuracy", "published:mir_healthforge", "published", 0, 1, ALL, None,
           "micro-F1 (accuracy) of distance below the 5th percentile: a constant near 0.05 r + 0.95 (1 - r)", "n² d",
           "everything", "HealthForge, released code"),
    Metric("air_healthforge_accuracy", "published:air_healthforge", "published", 0, 1, CODES, None,
           "micro-F1 (accuracy) of votes of 400 neighbours, 30 highest-entropy flags known", "n² d",
           "sparse codes: saying no to all is 99 % right", "HealthForge, released code"),
    Metric("dimension_healthforge_accuracy", "published:dimension_healthforge", "published", 0, 1, ("codes",), None,
           "micro-F1 (accuracy) of dimension-wise models fitted and tested on train: synth does not enter", "n d",
           "everything", "HealthForge, released code"),
)  # fmt: skip

METRICS: Mapping[str, Metric] = {row.name: row for row in _FIDELITY + _UTILITY + _PRIVACY + _GUIDANCE + _PUBLISHED}

# What a cell costs: measured by the harness, kept apart from the scores. name -> what it is
COSTS: Mapping[str, str] = {
    "tune_s": "seconds that the trials of its study took",
    "fit_s": "seconds of fitting",
    "fit_shared": "share of the replicates whose fit was made for another cell that differs only in how it samples; "
    "`fit_s` and `peak_memory_mb` are then that fit's",
    "sample_s_per_1k": "seconds per 1,000 subjects sampled",
    "peak_memory_mb": "highest resident memory of the cell's processes up to sampling, MiB",
    "n_parameters": "numbers a fitted generator holds",
}
