"""Patients to diagnose: a picture, a story, and a list of faults to choose from. Chapter 20."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import anywidget
import traitlets
from torch import Tensor

from minildm.widgets.page import as_address, script, style, within


class Patient(NamedTuple):
    """pictures: (N, 1 or 3, h, w) in [-1, 1]. story: what its owner says. fault: what is wrong, one
    of the choices.

    reply: what is said once the fault has been found. hints: what is said to other choices, where
    there is something better to say than "no".
    """

    pictures: Tensor
    story: str
    fault: str
    reply: str
    hints: Mapping[str, str] = {}


class Diagnosis(anywidget.AnyWidget):
    """A menu of patients, one of choices and a button that says whether the choice is right: see
    `diagnosis`.

    `patient` and `choice` say what is chosen; `solved` lists the patients whose fault has been
    found.
    """

    _esm = script("diagnosis.js")
    _css = style("diagnosis.css")
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    pictures = traitlets.List(traitlets.Unicode()).tag(sync=True)  # PNGs as data: addresses
    stories = traitlets.List(traitlets.Unicode()).tag(sync=True)
    choices = traitlets.List(traitlets.Unicode()).tag(sync=True)
    # each patient's place among the choices
    answers = traitlets.List(traitlets.Int()).tag(sync=True)
    # what each patient says to each choice
    replies = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    solved = traitlets.List(traitlets.Int()).tag(sync=True)
    patient = traitlets.Int(0).tag(sync=True)
    choice = traitlets.Int(-1).tag(sync=True)

    _within, _kept = within(
        patient=lambda widget: (0, len(widget.names) - 1),
        choice=lambda widget: (-1, len(widget.choices) - 1),
    )


def diagnosis(patients: Mapping[str, Patient], choices: list[str]) -> Diagnosis:
    """A widget that shows a patient, lets the reader choose among faults, and says whether the
    choice is right; it answers in the page itself, without a kernel too.

    patients: name -> patient. choices: what may be wrong, in the order of the menu.
    """
    if not patients:
        raise ValueError("expected at least one patient, got none")
    if len(set(choices)) != len(choices) or len(choices) < 2:
        raise ValueError(f"expected two or more choices, all different, got {choices}")
    for name, patient in patients.items():
        if unknown := {patient.fault, *patient.hints} - set(choices):
            raise ValueError(
                f"{name!r}: expected faults among the choices, got {', '.join(sorted(unknown))}"
            )
    return Diagnosis(
        names=list(patients),
        pictures=[
            as_address(patient.pictures, ncols=len(patient.pictures))
            for patient in patients.values()
        ],
        stories=[patient.story for patient in patients.values()],
        choices=choices,
        answers=[choices.index(patient.fault) for patient in patients.values()],
        replies=[[_reply(patient, choice) for choice in choices] for patient in patients.values()],
    )


def _reply(patient: Patient, choice: str) -> str:
    return (
        f"Yes. {patient.reply}"
        if choice == patient.fault
        else patient.hints.get(choice, "No. Look again.")
    )
