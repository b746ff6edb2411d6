"""A method has one colour everywhere, seen on light and dark, and is told apart without it."""

import pytest

from rlcredit.evaluation.names import METHODS
from rlcredit.report.colours import COLOURS, PALETTE, colour_of, looks

LIGHT, DARK = "#fdfdfc", "#12161d"


def luminance(colour):
    """Relative luminance (WCAG 2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", PALETTE)
def test_every_colour_stands_out_on_light_and_on_dark_pages(colour):
    assert contrast(colour, LIGHT) >= 3
    assert contrast(colour, DARK) >= 3


def test_every_named_method_has_a_colour_of_its_own_choice():
    assert set(METHODS) <= set(COLOURS)
    compared = ("grpo", "ospo", "loo", "random_credit", "prefix", "rloo", "ospo_rank", "dr_grpo")
    assert len({colour_of(name) for name in compared}) == len(compared)


def test_settings_of_the_run_keep_the_colour_and_settings_of_the_estimator_do_not():
    assert colour_of("grpo trainer.updates_per_batch=2 loss=grpo") == colour_of("grpo")
    assert colour_of("ospo estimator/value=random") == colour_of("random_credit")
    values = {colour_of(f"ospo estimator.value.budget={n}") for n in range(40)}
    assert len(values) > 6
    assert colour_of("my_method") == colour_of("my_method") in PALETTE


def test_methods_of_one_plot_differ_without_their_colour_or_within_it():
    names = [f"grpo trainer.steps={n}" for n in range(8)] + ["ospo", "loo", "prefix", "rloo"]
    found = looks(names)
    assert len({(look.colour, str(look.dashes)) for look in found.values()}) == 12
    assert len({look.marker for look in found.values()}) == 12
    assert found["ospo"].dashes == "-"
