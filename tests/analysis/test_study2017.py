"""The study of 2017 beside rows: its own numbers, a machine that agrees, one that does not."""

from __future__ import annotations

import pytest
from helpers.trial_tables import failed_trial, table, trials

from raybench.analysis.scaling import scaling
from raybench.analysis.study2017.data import study, study_trials
from raybench.analysis.study2017.figures import paper
from raybench.analysis.study2017.findings import NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED


def verdicts(made):
    return {finding.name: finding.verdict for finding in made.findings}


def test_the_studys_own_numbers_reproduce_every_figure_and_finding():
    made = paper(study_trials())
    for figure in made.figures:
        assert figure.here == figure.study, figure.title
    assert set(verdicts(made).values()) == {REPRODUCED}
    assert [len(figure.study) for figure in made.figures] == [4, 3, 3, 3, 3, 18]


def test_the_studys_speedups_are_those_that_it_prints():
    printed = {
        (bar["model"], bar["workers"]): bar["speedup"]
        for bar in study().to_pylist()
        if bar["speedup"] is not None
    }
    found = {
        (e.series.model, e.workers): e.speedup.value
        for e in scaling(study_trials()).entries
        if e.series.environment_id == "study2017-scaling"
    }
    assert found.keys() == printed.keys()
    digits = {"googlenet": 3, "alexnet": 2}
    assert {key: round(value, digits[key[0]]) for key, value in found.items()} == printed
    assert sorted(v for v in printed.values() if v > 1) == [1.99, 1.999, 3.98, 3.995]


def test_the_ratios_of_the_bars_come_out_exactly():
    bars = {
        (f.number, b.model, b.device, b.precision): b.relative.value
        for f in paper(study_trials()).figures
        for b in f.here
        if f.number in (1, 4, 5)
    }
    assert bars[1, "googlenet", "Tesla P40", "int8"] == 6410 / 2215
    assert bars[4, "googlenet", "Tesla P40", "int8"] == 6410 / 1446
    assert bars[5, "alexnet", "Tesla P40", "fp32"] == 5198 / 3200
    assert bars[5, "alexnet", "Tesla P40", "int8"] == 16292 / 3200


def pair(fp32, int8, **row):
    return [
        *trials(fp32, precision="fp32", **row),
        *trials(int8, precision="int8", **row),
    ]


def test_a_machine_that_disagrees_is_shown_with_its_figures():
    made = paper(table(*pair([100.0, 101.0], [150.0, 151.0], device="GPU", batch_size=128)))
    gain = made.findings[0]
    assert gain.verdict == NOT_REPRODUCED
    assert "googlenet int8 / fp32, batch 128, GPU: 1.50 [" in gain.reason
    assert "in the study 2.894 (Tesla P40)" in gain.reason
    (one,) = gain.evidence
    assert (one.study, one.holds) == (pytest.approx(6410 / 2215), False)
    rest = {name: word for name, word in verdicts(made).items() if name != "int8_gain"}
    assert set(rest.values()) == {NOT_TESTABLE}
    assert "One kind of device only" in " ".join(made.figures[3].missing)


def test_simulated_rows_are_no_evidence_and_are_marked():
    made = paper(table(*pair([100.0], [300.0], simulated=True)))
    gain = made.findings[0]
    assert (gain.verdict, gain.reason) == (NOT_TESTABLE, "Simulated rows say nothing of hardware.")
    assert made.figures[0].here[0].marks == ("simulated",)


def test_the_studys_figure_is_that_of_the_same_sizes():
    names = {"precision": "int8", "device": "GPU", "batch_size": 128}
    two = [*trials([100.0, 101.0], workers=1, **names), *trials([200.0, 202.0], workers=2, **names)]
    (one,) = paper(table(*two)).findings[1].evidence
    assert "speedup of 2 over 1" in one.what
    assert one.study == pytest.approx(12808 / 6406)
    three = [*two, *trials([300.0, 303.0], workers=3, **names)]
    (one,) = paper(table(*three)).findings[1].evidence
    assert one.study is None  # it has one, two and four


def test_the_studys_rise_is_that_over_the_same_batches():
    rows = [
        row
        for batch, rate in ((1, 10.0), (32, 100.0), (1024, 150.0))
        for row in trials([rate, rate], batch_size=batch, precision="int8", device="GPU")
    ]
    rise = next(f for f in paper(table(*rows)).findings if f.name == "batch_rises")
    assert [one.study for one in rise.evidence] == [pytest.approx(6822 / 594)]


def test_memory_that_ends_first_in_the_smaller_network_is_not_as_in_the_study():
    rows = [
        *trials([10.0], model="alexnet", batch_size=1),
        failed_trial("out_of_memory", model="alexnet", batch_size=2),
        *trials([10.0], batch_size=1),
        *trials([11.0], batch_size=2),
    ]
    found = paper(table(*rows)).findings[-1]
    assert found.verdict == NOT_REPRODUCED
    assert "alexnet ended at batch 2, googlenet ran at batch 2" in found.reason


def test_of_several_engines_a_figure_takes_the_one_with_the_most_bars():
    rows = table(
        *pair([100.0], [290.0], engine="openvino", device="AMD EPYC"),
        *trials([1.0], engine="onnxruntime", device="AMD EPYC", precision="fp32"),
    )
    assert [bar.items_per_s.value for bar in paper(rows).figures[0].here] == [100, 290]


def test_other_networks_and_no_rows_leave_all_open():
    for rows in (table(), table(*trials([1.0], model="resnet50"))):
        made = paper(rows)
        assert set(verdicts(made).values()) == {NOT_TESTABLE}
        assert {figure.missing for figure in made.figures} == {("No row of alexnet or googlenet.",)}
        assert all(figure.study for figure in made.figures)
    assert paper(table()).as_table().num_rows == 6


def test_another_batch_is_not_held_against_the_studys():
    fits, other = (
        paper(table(*pair([100.0, 101.0], [300.0, 303.0], device="GPU", batch_size=batch)))
        .findings[0]
        .evidence[0]
        for batch in (128, 64)
    )
    assert (fits.study, fits.beside) == (pytest.approx(6410 / 2215), "Tesla P40")
    assert other.study is None
    assert other.beside == "2.894 at batch 128, Tesla P40: another batch, not compared"


def test_cores_of_a_cpu_reproduce_nothing_of_gpus():
    names = {"device": "AMD EPYC", "device_kind": "cpu", "batch_size": 128}
    scaled = [
        row
        for n in (1, 2)
        for row in trials([10.0 * n, 10.1 * n], workers=n, precision="int8", **names)
    ]
    made = paper(table(*pair([10.0, 10.1], [30.0, 30.3], **names), *scaled))
    assert set(verdicts(made).values()) == {NOT_TESTABLE}
    assert made.findings[0].reason.startswith("The study is of GPUs, these rows are of CPU cores: ")
    assert all(one.holds is None for finding in made.findings for one in finding.evidence)


def test_generations_name_the_devices_of_both_sides():
    made = paper(study_trials())
    newer = next(f for f in made.findings if f.name == "fp32_generation")
    assert "(Tesla P40 / Tesla M40)" in newer.reason
