"""The diagnosis: what travels to the browser, what the page answers, what it refuses."""

import numpy as np
import pytest
import torch
from javascript import JavaScript
from pages import decoded

from minildm.plots import mosaic
from minildm.widgets import Patient, diagnosis

PICTURES = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
CHOICES = ["measles", "flu", "gout"]
PATIENTS = {
    "A": Patient(PICTURES, "spots", "measles", "Look at the spots.", {"flu": "That has fever."}),
    "B": Patient(PICTURES[:2], "a toe", "gout", "Look at the toe."),
}


def test_patients_travel_with_an_answer_to_every_choice():
    widget = diagnosis(PATIENTS, CHOICES)
    assert widget.names == ["A", "B"] and widget.stories == ["spots", "a toe"]
    assert widget.answers == [0, 2]
    np.testing.assert_array_equal(decoded(widget.pictures[0]), mosaic(PICTURES, ncols=3))
    assert widget.replies[0] == ["Yes. Look at the spots.", "That has fever.", "No. Look again."]
    assert widget.replies[1] == ["No. Look again.", "No. Look again.", "Yes. Look at the toe."]


def test_the_page_says_whether_the_choice_is_right_and_counts_each_patient_once():
    widget, judge = diagnosis(PATIENTS, CHOICES), JavaScript("verdict.js")
    known = [widget.answers, widget.replies]
    assert judge("judge", 0, -1, *known, []) == {"text": "Choose what is wrong.", "solved": []}
    assert judge("judge", 0, 1, *known, []) == {"text": "That has fever.", "solved": []}
    assert judge("judge", 1, 2, *known, [0]) == {"text": "Yes. Look at the toe.", "solved": [0, 1]}
    assert judge("judge", 1, 2, *known, [1]) == {"text": "Yes. Look at the toe.", "solved": [1]}
    assert judge("judge", 1, 0, *known, [1]) == {"text": "No. Look again.", "solved": [1]}


def test_nothing_is_chosen_at_first_and_python_chooses_within_what_there_is():
    widget = diagnosis(PATIENTS, CHOICES)
    assert (widget.patient, widget.choice, widget.solved) == (0, -1, [])
    widget.patient, widget.choice = 1, 2
    with pytest.raises(ValueError, match="patient in 0 … 1, got 2"):
        widget.patient = 2
    with pytest.raises(ValueError, match="choice in -1 … 2, got 3"):
        widget.choice = 3


def test_what_is_refused_says_why():
    with pytest.raises(ValueError, match="at least one patient"):
        diagnosis({}, CHOICES)
    with pytest.raises(ValueError, match="two or more choices, all different"):
        diagnosis(PATIENTS, ["gout", "gout"])
    with pytest.raises(ValueError, match="'B': expected faults among the choices, got gout"):
        diagnosis(PATIENTS, CHOICES[:2])
