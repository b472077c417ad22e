"""How much each knob matters, by Optuna's PED-ANOVA (Watanabe et al., 2023, arXiv:2304.10255) over the records."""

from collections.abc import Sequence

from pipeline.core import objectives
from pipeline.core.record import Record
from pipeline.report.plots import varied
from pipeline.report.ranking import Row, by_engine, objective_names

LEAST = 8  # configurations with a result: with fewer, a share would be made up


def of(records: Sequence[Record], rows: Sequence[Row]) -> dict[str, float]:
    """The share of each varied knob, of each engine alone; empty where too little was measured, or nothing differs."""
    engines = by_engine(records)
    if len(engines) < 2:
        return _alone(records, rows)
    found = {engine: _alone(some, rows) for engine, some in engines.items()}
    return {f"{engine}.{knob}": share for engine, shares in found.items() for knob, share in shares.items()}


def _alone(records: Sequence[Record], rows: Sequence[Row]) -> dict[str, float]:
    by_number = {record.number: record for record in records}
    ranked = [(by_number[row.number], row.objective[0]) for row in rows if row.objective and row.number in by_number]
    knobs = varied([record for record, _ in ranked])
    if len(ranked) < LEAST or not knobs or len({score for _, score in ranked}) < 2:
        return {}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    values = {knob: sorted({str(record.config.knobs[knob]) for record, _ in ranked}) for knob in knobs}
    kinds = {knob: optuna.distributions.CategoricalDistribution(seen) for knob, seen in values.items()}
    more = objectives.is_maximised(objective_names(records)[0])
    study = optuna.create_study(direction="maximize" if more else "minimize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={knob: str(record.config.knobs[knob]) for knob in knobs}, distributions=dict(kinds), value=score
            )
            for record, score in ranked
        ]
    )
    return optuna.importance.get_param_importances(study, evaluator=optuna.importance.PedAnovaImportanceEvaluator())
