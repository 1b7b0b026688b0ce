"""The search of ``run_all.py tune`` is sound where it is simulated, and the simulation sees the dangers."""

from perf.tuning_rates import DOCS, biases, rates


def test_tuned_methods_are_compared_at_the_nominal_rate_and_shortcuts_are_not() -> None:
    docs = DOCS.read_text(encoding="utf-8")
    for rate in rates():
        assert rate.value <= rate.bound if rate.bound > 0 else rate.value >= -rate.bound, rate
        assert f"| {rate.case} | {rate.what} |" in docs, "run python -m perf.tuning_rates --write"


def test_the_final_runs_accuracy_has_no_selection_bias_and_the_trials_have() -> None:
    fair, *others = biases()
    assert abs(fair.mean) < 3 * fair.error
    assert len(others) == 3
    assert all(bias.mean > 0.2 for bias in others)
