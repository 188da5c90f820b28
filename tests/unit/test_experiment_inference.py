"""Intervals, p-values and strata of experiments (semantics 10), against scipy, statsmodels, and numeric derivatives."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt

import numpy as np
import numpy.typing as npt
import pytest
import statsmodels.api as sm
from scipy import stats

from platform_assets.semantics.experiment.covariates import AdjustedMeanStatistic, AdjustedRatioStatistic, adjusted
from platform_assets.semantics.experiment.effects import Effect, Pair, Problem, effect, stratified_effect, summed
from platform_assets.semantics.experiment.inference import (
    Plan,
    Prior,
    additional_units,
    believe,
    compare,
    measured,
    power,
    sample_ratio_p_value,
    sequential_rho,
    sequential_width,
)
from platform_assets.semantics.experiment.moments import (
    ClusteredQuantileStatistic,
    MeanStatistic,
    ProportionStatistic,
    QuantileStatistic,
    RatioStatistic,
    Statistic,
)

Values = npt.NDArray[np.float64]
ABSOLUTE, RELATIVE = Plan(difference="absolute"), Plan(difference="relative")


def mean(values: Values) -> MeanStatistic:
    return MeanStatistic(len(values), float(values.sum()), float(values @ values))


def proportion(values: Values) -> ProportionStatistic:
    return ProportionStatistic(len(values), float((values > 0).sum()))


def ratio(unit: Values) -> RatioStatistic:
    m, d = unit[0], unit[1]
    return RatioStatistic(len(m), mean(m), mean(d), float(m @ d))


def adjusted_mean(unit: Values, theta: float | None = None) -> AdjustedMeanStatistic:
    return AdjustedMeanStatistic(unit.shape[1], mean(unit[0]), mean(unit[2]), float(unit[0] @ unit[2]), theta)


def adjusted_ratio(unit: Values, theta: float | None = None) -> AdjustedRatioStatistic:
    m, d, m_before, d_before = unit
    return AdjustedRatioStatistic(
        n=len(m),
        numerator_after=mean(m),
        denominator_after=mean(d),
        numerator_before=mean(m_before),
        denominator_before=mean(d_before),
        numerator_after_denominator_after=float(m @ d),
        numerator_after_numerator_before=float(m @ m_before),
        numerator_after_denominator_before=float(m @ d_before),
        denominator_after_numerator_before=float(d @ m_before),
        denominator_after_denominator_before=float(d @ d_before),
        numerator_before_denominator_before=float(m_before @ d_before),
        theta=theta,
    )


def units(seed: int, n: int, shift: float = 0.0, sign: float = 1.0) -> Values:
    """Numerator, denominator, and both before the exposure; a row each."""
    draw = np.random.default_rng(seed)
    habit = draw.normal(size=n)
    m = sign * (5 + shift + habit + draw.normal(size=n))
    d = 12 + habit / 2 + draw.normal(size=n)
    m_before = sign * (4 + habit + draw.normal(size=n) / 2)
    return np.array([m, d, m_before, 11 + habit + draw.normal(size=n)])


# Effects


Estimate = Callable[[Values, Values], float]


def ratio_by(theta: float) -> Callable[[Values], float]:
    return lambda means: float(means[0] / means[1] - theta * means[2] / means[3])


def numeric_error(estimate: Estimate, control: Values, treatment: Values) -> float:
    """The delta method with derivatives by small steps, in the means of the units' values."""
    variance = 0.0
    means = (control.mean(axis=1), treatment.mean(axis=1))
    for arm, values in enumerate((control, treatment)):
        gradient = []
        for place in range(len(values)):
            step = np.zeros(len(values))
            step[place] = 1e-6
            up, down = (tuple(m + s * step * (i == arm) for i, m in enumerate(means)) for s in (1, -1))
            gradient.append((estimate(*up) - estimate(*down)) / 2e-6)
        variance += float(np.array(gradient) @ np.cov(values) @ np.array(gradient)) / values.shape[1]
    return sqrt(variance)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("is_relative", [False, True])
@pytest.mark.parametrize("theta", [None, 0.7])
def test_the_error_of_a_ratio_is_the_delta_methods(sign: float, is_relative: bool, theta: float | None) -> None:
    control, treatment = units(1, 400, sign=sign), units(2, 300, 0.3, sign)
    value, plain = ratio_by(theta or 0.0), ratio_by(0.0)

    def estimate(a: Values, b: Values) -> float:
        return (value(b) - value(a)) / (abs(plain(a)) if is_relative else 1.0)

    pair: Pair = (ratio(control), ratio(treatment))
    if theta is not None:
        pair = (adjusted_ratio(control, theta), adjusted_ratio(treatment, theta))
    found = effect(*pair, is_relative=is_relative)
    assert isinstance(found, Effect)
    assert found.estimate == pytest.approx(estimate(control.mean(axis=1), treatment.mean(axis=1)))
    assert found.standard_error == pytest.approx(numeric_error(estimate, control, treatment), rel=1e-5)
    assert found.n == 700


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_error_of_a_relative_mean_is_the_delta_methods(sign: float) -> None:
    control, treatment = units(1, 400, sign=sign), units(2, 300, 0.3, sign)
    found = effect(mean(control[0]), mean(treatment[0]), is_relative=True)
    assert isinstance(found, Effect)
    expected = numeric_error(lambda a, b: float((b[0] - a[0]) / abs(a[0])), control, treatment)
    assert found.standard_error == pytest.approx(expected, rel=1e-5)


def test_the_relative_cuped_error_takes_the_covariates_means_for_one() -> None:
    control, treatment = units(1, 400), units(2, 300, 0.3)
    # With covariates of one mean it is the delta method's to the letter.
    treatment[2] += control[2].mean() - treatment[2].mean()
    found = effect(adjusted_mean(control, 0.7), adjusted_mean(treatment, 0.7), is_relative=True)
    assert isinstance(found, Effect)
    expected = numeric_error(
        lambda a, b: float((b[0] - 0.7 * b[2] - a[0] + 0.7 * a[2]) / abs(a[0])), control, treatment
    )
    assert found.standard_error == pytest.approx(expected, rel=1e-5)


def test_cuped_of_ratios_narrows_the_interval() -> None:
    control, treatment = units(1, 400), units(2, 300, 0.3)
    plain = compare([(ratio(control), ratio(treatment))], ABSOLUTE)
    cuped = compare([(adjusted_ratio(control), adjusted_ratio(treatment))], ABSOLUTE)
    assert cuped.standard_error < 0.95 * plain.standard_error


def test_no_other_coefficient_leaves_less_of_a_ratios_variance() -> None:
    control, treatment = units(1, 400), units(2, 400, 0.3)
    found = adjusted(adjusted_ratio(control), adjusted_ratio(treatment))[0]
    assert isinstance(found, AdjustedRatioStatistic)
    assert found.theta is not None
    errors = []
    for theta in (found.theta * 0.98, found.theta, found.theta * 1.02):
        other = effect(adjusted_ratio(control, theta), adjusted_ratio(treatment, theta), is_relative=False)
        assert isinstance(other, Effect)
        errors.append(other.standard_error)
    assert errors[1] < min(errors[0], errors[2])


def test_a_covariate_that_says_nothing_changes_nothing() -> None:
    control, treatment = units(1, 50), units(2, 50, 0.3)
    control[2] = treatment[2] = 0.0
    plain = compare([(mean(control[0]), mean(treatment[0]))], RELATIVE)
    assert compare([(adjusted_mean(control), adjusted_mean(treatment))], RELATIVE) == plain
    assert isinstance(adjusted(adjusted_mean(control), adjusted_mean(treatment))[0], MeanStatistic)


# Tests


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_intervals_and_p_values_are_welchs(alternative: str) -> None:
    control, treatment = units(1, 40)[0], units(2, 25, 0.3)[0]
    found = compare(
        [(mean(control), mean(treatment))],
        Plan(difference="absolute", alternative=alternative, alpha=0.1),  # type: ignore[arg-type]
    )
    expected = stats.ttest_ind(treatment, control, equal_var=False, alternative=alternative)
    interval = expected.confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(expected.pvalue)


def test_a_null_value_moves_the_p_value_only() -> None:
    control, treatment = units(1, 40)[0], units(2, 25, 0.3)[0]
    pairs = [(mean(control), mean(treatment))]
    moved = compare(pairs, Plan(difference="absolute", null_value=0.2))
    assert moved.p_value == pytest.approx(stats.ttest_ind(treatment - 0.2, control, equal_var=False).pvalue)
    assert moved.low == compare(pairs, ABSOLUTE).low


def test_a_scaled_effect_is_the_absolute_one_times_the_units_a_day() -> None:
    pairs = [(mean(units(1, 40)[0]), mean(units(2, 25, 0.3)[0]))]
    absolute = compare(pairs, ABSOLUTE)
    scaled = compare(pairs, Plan(difference="scaled", total_units=700, phase_days=7, traffic_share=0.5))
    for name in ("estimate", "standard_error", "low", "high"):
        assert getattr(scaled, name) == pytest.approx(200 * getattr(absolute, name))
    assert scaled.p_value == absolute.p_value


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (Plan(difference="scaled", total_units=700, phase_days=0), Problem.NO_TRAFFIC),
        (Plan(difference="scaled", total_units=700, traffic_share=0), Problem.NO_TRAFFIC),
        (Plan(difference="scaled"), Problem.NO_UNITS),
        (Plan(is_sequential=True, alternative="less", alpha=0.5), Problem.ALPHA_TOO_LARGE),
    ],
)
def test_a_plan_that_cannot_be_has_no_result(plan: Plan, problem: Problem) -> None:
    found = compare([(mean(units(1, 40)[0]), mean(units(2, 25)[0]))], plan)
    assert (found.problem, found.estimate, found.low, found.p_value) == (problem, None, None, None)


def test_ratios_are_not_scaled() -> None:
    plan = Plan(difference="scaled", total_units=700)
    assert compare([(ratio(units(1, 40)), ratio(units(2, 25)))], plan).problem == Problem.NOT_SCALABLE


@pytest.mark.parametrize(
    ("control", "problem"),
    [
        (MeanStatistic(0, 0, 0), Problem.NO_VARIANCE),
        (MeanStatistic(1, 3, 9), Problem.NO_VARIANCE),
        (MeanStatistic(4, 8, 16), Problem.NO_VARIANCE),
        (ProportionStatistic(4, 4), Problem.NO_VARIANCE),
        (MeanStatistic(2, 0, 2), Problem.NO_BASELINE),
        (RatioStatistic(4, MeanStatistic(4, 3, 5), MeanStatistic(4, 0, 0), 0), Problem.NO_VARIANCE),
    ],
)
@pytest.mark.parametrize("plan", [ABSOLUTE, RELATIVE])
def test_statistics_that_say_nothing_have_no_result(control: Statistic, problem: Problem, plan: Plan) -> None:
    assert compare([(control, MeanStatistic(2, 3, 5))], plan).problem == problem


def test_unsound_plans_and_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match=r"alpha is 1\.5"):
        Plan(alpha=1.5)
    with pytest.raises(ValueError, match="sequential_tuning is 0"):
        Plan(sequential_tuning=0)
    with pytest.raises(ValueError, match="level is 1"):
        QuantileStatistic(10, 10, 1, 1, 0, 2)
    with pytest.raises(TypeError, match="before a ProportionStatistic"):
        AdjustedMeanStatistic(2, MeanStatistic(2, 1, 1), ProportionStatistic(2, 1), 1)
    with pytest.raises(ValueError, match="pairs is empty"):
        summed([])
    with pytest.raises(ValueError, match="do not add up over strata"):
        summed([(MeanStatistic(2, 1, 1), MeanStatistic(2, 1, 1))] * 1 + [(ratio(units(1, 9)), ratio(units(1, 9)))])


# Always valid


def test_looking_again_and_again_does_not_find_what_is_not_there() -> None:
    # An A/A experiment, 200 times, looked at nineteen times on the way to 2000 units: Welch's interval leaves out the
    # truth at some look in far more of them than one in twenty; the always-valid interval does not.
    draw = np.random.default_rng(20260501)
    looks = range(100, 1001, 50)
    sequential = Plan(difference="absolute", is_sequential=True, sequential_tuning=1000)
    missed = {ABSOLUTE: 0, sequential: 0}
    for _ in range(200):
        control, treatment = draw.exponential(size=(2, 1000)) + 1
        for plan in missed:
            for look in looks:
                found = compare([(mean(control[:look]), mean(treatment[:look]))], plan)
                assert found.low is not None
                assert found.high is not None
                if not found.low <= 0 <= found.high:
                    missed[plan] += 1
                    break
    assert missed[sequential] / 200 <= 0.05
    assert missed[ABSOLUTE] / 200 > 0.15


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_at_an_alpha_of_its_p_value_the_interval_ends_at_the_null_value(alternative: str) -> None:
    shift = -0.2 if alternative == "less" else 0.8
    pairs = [(mean(units(1, 300)[0]), mean(units(2, 200, shift)[0]))]
    rho = sequential_rho(0.05, 5000, is_two_sided=alternative == "two-sided")
    plan = Plan(difference="absolute", alternative=alternative, is_sequential=True, rho=rho, null_value=0.4)  # type: ignore[arg-type]
    p_value = compare(pairs, plan).p_value
    found = measured(pairs, plan)
    assert p_value is not None
    assert isinstance(found, Effect)
    assert 0.0001 < p_value < 0.49
    width = sequential_width(found, p_value, rho, is_two_sided=alternative == "two-sided")
    assert width == pytest.approx(abs(found.estimate - 0.4))


def test_the_always_valid_interval_is_narrowest_where_it_is_tuned_to() -> None:
    found = Effect(0.0, 0.1, 3000)
    rho = sequential_rho(0.05, 3000, is_two_sided=True)
    less, tuned, more = (sequential_width(found, 0.05, factor * rho, is_two_sided=True) for factor in (0.93, 1, 1.07))
    assert tuned < min(less, more)
    assert sequential_rho(0.025, 3000, is_two_sided=False) == rho


def test_a_one_sided_interval_is_open_and_its_p_value_bounded() -> None:
    pairs = [(mean(units(1, 3000)[0]), mean(units(2, 2000, 2)[0]))]
    greater, less = (
        compare(pairs, Plan(difference="absolute", alternative=a, is_sequential=True))  # type: ignore[arg-type]
        for a in ("greater", "less")
    )
    assert (greater.high, greater.p_value) == (inf, 1e-5)
    assert (less.low, less.p_value) == (-inf, 0.4999)


# Strata


def strata(sizes: tuple[tuple[int, int], ...], sign: float = 1.0) -> list[tuple[Values, Values]]:
    return [(units(10 + i, a, i, sign), units(20 + i, b, i + 0.3 * (i + 1), sign)) for i, (a, b) in enumerate(sizes)]


def test_strata_weigh_as_many_as_they_are() -> None:
    drawn = strata(((60, 90), (200, 30), (50, 50)))
    found = stratified_effect([(mean(a[0]), mean(b[0])) for a, b in drawn], is_relative=False)
    assert isinstance(found, Effect)
    n = np.array([a.shape[1] + b.shape[1] for a, b in drawn])
    differences = np.array([b[0].mean() - a[0].mean() for a, b in drawn])
    variances = np.array([b[0].var(ddof=1) / b.shape[1] + a[0].var(ddof=1) / a.shape[1] for a, b in drawn])
    shares = n / n.sum()
    between = shares @ differences**2 - (shares @ differences) ** 2
    assert found.estimate == pytest.approx(shares @ differences)
    assert found.standard_error == pytest.approx(sqrt((between + shares @ (n * variances)) / n.sum()))
    assert found.is_stratified


def test_with_a_covariate_a_stratum_is_a_regression() -> None:
    drawn = strata(((60, 90), (200, 30)))
    found = stratified_effect([(adjusted_mean(a), adjusted_mean(b)) for a, b in drawn], is_relative=False)
    assert isinstance(found, Effect)
    n = np.array([a.shape[1] + b.shape[1] for a, b in drawn])
    fits = []
    for a, b in drawn:
        treated = np.repeat([0.0, 1.0], [a.shape[1], b.shape[1]])
        design = sm.add_constant(np.column_stack([treated, np.concatenate([a[2], b[2]])]))
        fits.append(sm.OLS(np.concatenate([a[0], b[0]]), design).fit())
    differences, variances = (
        np.array([f(fit) for fit in fits]) for f in (lambda f: f.params[1], lambda f: f.bse[1] ** 2)
    )
    shares = n / n.sum()
    between = shares @ differences**2 - (shares @ differences) ** 2
    assert found.estimate == pytest.approx(shares @ differences)
    assert found.standard_error == pytest.approx(sqrt((between + shares @ (n * variances)) / n.sum()))


@pytest.mark.parametrize("make", [ratio, adjusted_ratio])
@pytest.mark.parametrize("is_relative", [False, True])
def test_strata_of_ratios_make_up_for_uneven_assignment(make: Callable[[Values], Statistic], is_relative: bool) -> None:
    drawn = strata(((3000, 1000), (1000, 3000)))
    pairs = [(make(a), make(b)) for a, b in drawn]
    found, plain = stratified_effect(pairs, is_relative=is_relative), effect(*summed(pairs), is_relative=is_relative)
    assert isinstance(found, Effect)
    assert isinstance(plain, Effect)
    # What it is without noise: numerators 5 and 6 (5.3 and 6.6 treated) by denominators of 12.
    truth = 0.45 / (5.5 if is_relative else 12)
    assert abs(found.estimate - truth) < 4 * found.standard_error
    assert abs(plain.estimate - truth) > 4 * plain.standard_error


def test_a_stratum_without_variance_joins_the_largest() -> None:
    (large_a, large_b), (other_a, other_b) = [(mean(a[0]), mean(b[0])) for a, b in strata(((60, 90), (20, 30)))]
    lonely = (MeanStatistic(1, 7, 49), MeanStatistic(1, 6, 36))
    joined = [(large_a + lonely[0], large_b + lonely[1]), (other_a, other_b)]
    found = stratified_effect([lonely, (other_a, other_b), (large_a, large_b)], is_relative=True)
    assert found == stratified_effect(joined, is_relative=True)


def test_without_viable_strata_they_are_added_up_and_the_result_says_so() -> None:
    pairs = [(MeanStatistic(1, 7, 49), MeanStatistic(1, 6, 36)), (MeanStatistic(1, 3, 9), MeanStatistic(1, 5, 25))]
    found = compare(pairs, Plan(difference="absolute", is_stratified=True))
    assert found.estimate == 0.5
    assert not found.is_stratified


def test_quantiles_have_no_strata() -> None:
    quantile = QuantileStatistic(500, 500, 0.9, 3.0, 2.8, 3.3)
    with pytest.raises(ValueError, match="cannot be post-stratified"):
        compare([(quantile, quantile)] * 2, Plan(is_stratified=True))


# Quantiles


def test_a_quantiles_interval_is_that_of_its_order_statistics() -> None:
    a, b = QuantileStatistic(500, 500, 0.9, 3.0, 2.8, 3.2), QuantileStatistic(500, 500, 0.9, 3.5, 3.2, 3.8)
    found = compare([(a, b)], ABSOLUTE)
    expected = sqrt(499 / 500 * (0.4**2 + 0.6**2)) / (2 * stats.norm.ppf(0.975))
    assert (found.estimate, found.standard_error) == (0.5, pytest.approx(expected))


def test_too_few_events_for_a_quantile_have_no_result() -> None:
    enough, few = (QuantileStatistic(n, n, 0.9, 3.0, 2.8, 3.2) for n in (35, 34))
    assert compare([(enough, enough)], ABSOLUTE).problem is None
    assert compare([(few, few)], ABSOLUTE).problem == Problem.NO_VARIANCE


def test_clusters_of_one_event_are_no_clusters() -> None:
    plain = QuantileStatistic(500, 500, 0.9, 3.0, 2.8, 3.2)
    single = ClusteredQuantileStatistic(500, 500, 0.9, 3.0, 2.8, 3.2, 450, 450, 500, 500, 450, 500)
    double = ClusteredQuantileStatistic(500, 500, 0.9, 3.0, 2.8, 3.2, 450, 900, 500, 1000, 900, 250)
    assert single.variance == pytest.approx(plain.variance * 500 / 499)
    assert double.variance == pytest.approx(plain.variance * 2 * 250 / 249)


# Sample ratio, beliefs, power


def test_the_sample_ratio_is_chi_square() -> None:
    assert sample_ratio_p_value([600, 400], [1, 1]) == pytest.approx(float(stats.chi2.sf(40, 1)))
    assert sample_ratio_p_value([600, 400], [3, 2]) == 1.0
    assert sample_ratio_p_value([0, 0], [1, 1]) == 1.0
    with pytest.raises(ValueError, match="weights has 1 numbers for 2 variants"):
        sample_ratio_p_value([600, 400], [1])
    with pytest.raises(ValueError, match="give numbers above 0"):
        sample_ratio_p_value([600, 400], [1, 0])


def test_without_a_prior_the_belief_is_the_data() -> None:
    pairs = [(mean(units(1, 300)[0]), mean(units(2, 200, 0.1)[0]))]
    found, data = believe(pairs, RELATIVE, Prior()), measured(pairs, RELATIVE)
    assert isinstance(data, Effect)
    belief = stats.norm(data.estimate, data.standard_error)
    assert (found.low, found.high) == pytest.approx(belief.interval(0.95))
    assert found.chance_to_win == pytest.approx(belief.sf(0))
    assert found.risk_of_control == pytest.approx(belief.expect(lambda x: max(x, 0)), rel=1e-4)
    assert found.risk_of_treatment == pytest.approx(belief.expect(lambda x: max(-x, 0)), rel=1e-4)
    inverse = believe(pairs, RELATIVE, Prior(), is_inverse=True)
    assert inverse.chance_to_win == pytest.approx(belief.cdf(0))
    assert (inverse.risk_of_control, inverse.risk_of_treatment) == (found.risk_of_treatment, found.risk_of_control)


def test_a_prior_draws_the_belief_to_itself_in_its_own_unit() -> None:
    pairs = [(mean(units(1, 300)[0]), mean(units(2, 200, 0.1)[0]))]
    baseline = pairs[0][0].value
    relative = Prior(mean=0.02, variance=0.01**2, is_proper=True)
    absolute = Prior(0.02 * baseline, (0.01 * baseline) ** 2, is_proper=True, is_relative=False)
    for plan in (ABSOLUTE, RELATIVE):
        by_relative, by_absolute = believe(pairs, plan, relative), believe(pairs, plan, absolute)
        assert by_relative.mean == pytest.approx(by_absolute.mean)
        assert by_relative.standard_deviation == pytest.approx(by_absolute.standard_deviation)
    data, belief = measured(pairs, RELATIVE), believe(pairs, RELATIVE, relative)
    assert isinstance(data, Effect)
    assert belief.mean is not None
    assert min(data.estimate, 0.02) < belief.mean < max(data.estimate, 0.02)
    assert 1 / belief.standard_deviation**2 == pytest.approx(1 / data.standard_error**2 + 1 / 0.01**2)


@pytest.mark.parametrize("is_sequential", [False, True])
def test_additional_units_give_the_power_that_was_wanted(is_sequential: bool) -> None:
    plan = Plan(is_sequential=is_sequential)
    found = measured([(mean(units(1, 300)[0]), mean(units(2, 200, 0.1)[0]))], plan)
    assert isinstance(found, Effect)
    more = additional_units(found, plan, 0.03)
    assert more is not None
    assert more > 0
    assert power(found, plan, 0.03, growth=more / 500) == pytest.approx(0.8, abs=2e-3)
    assert additional_units(found, plan, 0.9) == 0
    assert additional_units(found, plan, 1e-9) is None
    more_tests = additional_units(found, plan, 0.03, tests=3)
    assert more_tests is not None
    assert more_tests > more


def test_power_is_that_of_the_normal_test() -> None:
    from statsmodels.stats.power import NormalIndPower

    found = Effect(0.0, sqrt(2 / 250), 500)
    expected = NormalIndPower().power(effect_size=0.2, nobs1=250, alpha=0.05)
    assert power(found, Plan(), 0.2) == pytest.approx(float(expected))
    with pytest.raises(ValueError, match="wanted_power is 1"):
        additional_units(found, Plan(), 0.2, wanted_power=1)
