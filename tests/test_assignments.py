"""The assignments: solvable, varied by the course key, released without their answers, and hard to
pass by mistake."""

import copy
import json
import re
import zipfile
from functools import cache
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import submissions

from minildm.grading import (
    Assignment,
    Mark,
    Part,
    grade_submission,
    make_release,
    mark_part,
    nbgrader_of,
    student_version,
    text_of,
)
from minildm.grading.sandbox.runner import perform
from minildm.grading.sandbox.wire import decode, encode

FOLDER = Path(__file__).parents[1] / "assignments"
NAMES = [
    "1_forward_diffusion",
    "2_unet",
    "3_samplers_and_guidance",
    "4_autoencoder",
    "5_attention",
    "6_project",
]
KEYS = "autumn", "spring"

# What students believe, as a change of the solution, and which parts it costs.
MISCONCEPTIONS = {
    "1_forward_diffusion": {
        "no roots": (
            "left.sqrt() * x0 + (1 - left).sqrt() * noise",
            "left * x0 + (1 - left) * noise",
            ["add-noise"],
        ),
        "a sum, not a product": (
            "torch.cumprod(1 - betas, dim=0)",
            "1 - torch.cumsum(betas, dim=0)",
            ["schedule"],
        ),
        "v turned the wrong way": ("a * xt - s * said", "a * xt + s * said", ["names"]),
        "the forward step's variance": (
            "variance = 1 / (from_x0 + from_xt)",
            "variance = 1 - alpha",
            ["posterior"],
        ),
    },
    "2_unet": {
        "exponents to h - 1": (
            "dtype=torch.float32) / half",
            "dtype=torch.float32) / (half - 1)",
            ["embedding"],
        ),
        "no activation of the timestep": (
            "self.time_emb_proj(F.silu(temb))",
            "self.time_emb_proj(temb)",
            ["resblock"],
        ),
        "the skip is forgotten": (
            "torch.cat([F.interpolate(h, scale_factor=2), skip], dim=1)",
            "F.interpolate(h, scale_factor=2).repeat(1, 2, 1, 1)[:, : 3 * WIDTH]",
            ["unet"],
        ),
        "the noise from elsewhere": (
            "torch.randn(x0.shape, generator=generator)",
            "torch.randn(x0.shape)",
            ["train"],
        ),
        "one timestep for all": (
            "torch.randint(1000, (32,), generator=generator)",
            "torch.randint(1000, (1,), generator=generator).expand(32)",
            ["train"],
        ),
        "gradients pile up": ("optimizer.zero_grad()", "pass", ["train"]),
        "it names the picture": ("t), noise)", "t), x0)", ["train"]),
    },
    "3_samplers_and_guidance": {
        "stops before the noise": (
            "round(T - i * T / steps) - 1",
            "round(T - (i + 1) * T / steps)",
            ["timesteps"],
        ),
        "the last step is missing": ("torch.tensor(1.0)", "alphas_cumprod[0]", ["sample"]),
        "guided from the prompt on": (
            "return without + scale",
            "return with_prompt + scale",
            ["guidance"],
        ),
        "two calls": (
            "model(torch.cat([x, x]), t, torch.cat([empty, context])).chunk(2)",
            "model(x, t, empty), model(x, t, context)",
            ["guidance"],
        ),
        "Euler under Heun's name": ("(slope + second) / 2", "slope", ["heun"]),
    },
    "4_autoencoder": {
        "the log-variance as deviation": (
            "torch.exp(0.5 * logvar)",
            "torch.exp(logvar)",
            ["gaussian"],
        ),
        "a mean over the pixels": (
            "flatten(1).sum(1) + beta",
            "flatten(1).mean(1) + beta",
            ["loss"],
        ),
        "all is clamped": (
            "return mean, logvar.clamp",
            "return mean.clamp(-30, 20), logvar.clamp",
            ["vae"],
        ),
        "variance for deviation": ("float(1 / z.std())", "float(1 / z.var())", ["scale"]),
        "through pixels": (
            "return decode((1 - shares) * start + shares * end)",
            "return (1 - shares).view(-1, 1, 1, 1) * a + shares.view(-1, 1, 1, 1) * b",
            ["walk"],
        ),
    },
    "5_attention": {
        "no root": (
            "(q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v",
            "(q @ k.mT).softmax(dim=-1) @ v",
            ["attention", "cross"],
        ),
        "a mask after the softmax": (
            'scores.masked_fill(ahead, float("-inf")).softmax(dim=-1) @ v',
            "scores.softmax(dim=-1).masked_fill(ahead, 0) @ v",
            ["causal"],
        ),
        "not even itself": (".triu(1)", ".triu(0)", ["causal"]),
        "heads and places mixed": (
            "attention(q, k, v).transpose(1, 2).flatten(2)",
            "attention(q, k, v).reshape(len(x), x.shape[1], -1)",
            ["cross"],
        ),
        "one direction": (
            "F.cross_entropy(scores.T, own)",
            "F.cross_entropy(scores, own)",
            ["clip"],
        ),
        "columns for rows": (
            ".unflatten(-1, (height, width))",
            ".unflatten(-1, (width, height)).mT",
            ["maps"],
        ),
    },
    "6_project": {
        "the factor forgotten": (
            "vae.decode(z / vae.config.scaling_factor)",
            "vae.decode(z)",
            ["stages"],
        ),
        "the first stops": (
            "stops[len(stops) - round(strength * len(stops)) :]",
            "stops[: round(strength * len(stops))]",
            ["begin", "redraw"],
        ),
        "v for the noise": (
            "noise = (1 - left) ** 0.5 * x + left**0.5 * v",
            "noise = v",
            ["redraw", "inpaint"],
        ),
        "put in only at the end": ("x = mask * x + (1 - mask) * known", "pass", ["inpaint"]),
        "the mask inside out": (
            "return mask * x + (1 - mask) * z",
            "return mask * z + (1 - mask) * x",
            ["inpaint"],
        ),
        "the spread of n": ("float(scores.std())", "float(scores.std(correction=0))", ["report"]),
    },
}


@cache
def assignment(name: str, key: str) -> Assignment:
    return Assignment(FOLDER / f"{name}.ipynb", key)


def solved(name: str, key: str) -> dict:
    """The released notebook, with the teacher's solutions in it."""
    own = assignment(name, key)
    bodies = {nbgrader_of(cell).get("grade_id"): text_of(cell) for cell in own.cells}
    released = json.loads(json.dumps(student_version(own)))
    return submissions.filled_in(released, **{cell: bodies[cell] for cell in own.solutions()})


@cache
def names_of_setup(name: str, key: str) -> dict:
    """What the course's own cell defines: data and models, loaded once."""
    module = ModuleType("setup")
    exec(assignment(name, key).locked()["setup"], vars(module))
    return vars(module)


def step(**request) -> dict:
    """A request as the grader puts it, with limits that do not matter here."""
    return {"name": "step", "seconds": 60, "clock": 600} | request


def answers(
    name: str, key: str, changed: dict[str, str] | None = None, only: set[str] | None = None
) -> dict:
    """Every part's reply, as the submission's process makes it: from the teacher's solution with
    `changed` cells."""
    own, module = assignment(name, key), ModuleType("submission")
    vars(module).update(
        {k: v for k, v in names_of_setup(name, key).items() if not k.startswith("__")}
    )
    bodies = {nbgrader_of(cell).get("grade_id"): text_of(cell) for cell in own.cells} | (
        changed or {}
    )
    for cell in own.solutions():
        reply = perform(step(cell=bodies[cell]), module)
        assert reply["error"] is None, reply
    return {
        part.name: asked(part, own, module)
        for part in own.parts
        if only is None or part.name in only
    }


def asked(part: Part, own: Assignment, module: ModuleType) -> dict:
    """One part's question, and what comes back over the wire."""
    reply = perform(step(ask=part.ask, given=encode(part.given), constants=own.constants), module)
    return {"error": reply["error"], "answer": decode(reply.get("answer"))}


def marks(name: str, key: str, replies: dict) -> dict[str, Mark]:
    return {
        part.name: mark_part(part, replies[part.name])
        for part in assignment(name, key).parts
        if part.name in replies
    }


def test_there_are_six_over_all_three_parts_of_the_course():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_assignment_says_what_it_teaches_how_long_it_takes_and_what_it_gives(name):
    own = assignment(name, KEYS[0])
    first = text_of(own.cells[0])
    assert "you can" in first and ("minutes" in first or "hours" in first)
    assert (
        f"{own.points:g} points: {own.points - own.written[0].points:g} marked by the machine"
        in first
    )
    assert len(own.parts) >= 4 and own.written
    for part in own.parts:
        assert f"({part.points:g} points)" in part.title
    sections = re.split(r"^## ", "\n".join(map(text_of, own.cells)), flags=re.MULTILINE)
    for part in own.parts:
        (section,) = (section for section in sections if section.startswith(part.title))
        assert "<summary>Hint" in section, part.title
    assert own.limits.seconds <= 180


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", NAMES)
def test_the_solution_gets_full_marks_from_the_real_grader(name, key, tmp_path):
    path = submissions.hand_in(tmp_path, "teacher", solved(name, key))
    result = grade_submission(path, assignment(name, key))
    assert result.score == result.out_of, result.marks
    assert result.notes == []


@pytest.mark.parametrize("name", NAMES)
def test_another_key_asks_other_questions(name):
    ours, theirs = (assignment(name, key) for key in KEYS)
    for part, other in zip(ours.parts, theirs.parts, strict=True):
        assert json.dumps(encode(part.given)) != json.dumps(encode(other.given)), part.name
    assert any(assignment(name, f"key {i}").constants != ours.constants for i in range(8))


@pytest.mark.parametrize("name", NAMES)
def test_answers_made_for_one_key_fail_under_another(name):
    stolen = answers(name, KEYS[0])
    own = marks(name, KEYS[0], stolen)
    assert all(each.points == each.out_of for each in own.values()), own
    assert {each.points for each in marks(name, KEYS[1], stolen).values()} == {0}


@pytest.mark.parametrize("name", NAMES)
def test_a_misconception_costs_exactly_its_parts(name):
    own = assignment(name, KEYS[0])
    sources = {
        nbgrader_of(c)["grade_id"]: text_of(c) for c in own.cells if nbgrader_of(c).get("solution")
    }
    assert len(MISCONCEPTIONS[name]) >= 2
    for belief, (right, wrong, parts) in MISCONCEPTIONS[name].items():
        cells = [cell for cell, source in sources.items() if source.count(right) == 1]
        assert len(cells) == 1, f"{belief}: its line is not in one solution"
        changed = {cells[0]: sources[cells[0]].replace(right, wrong)}
        costly = "train" not in parts  # else every belief about assignment 2 would be trained
        only = {part.name for part in own.parts if not (costly and part.name == "test-train")}
        got = marks(name, KEYS[0], answers(name, KEYS[0], changed, only))
        lost = sorted(part for part, each in got.items() if not each.points)
        assert lost == sorted(f"test-{part}" for part in parts), (belief, got)
        assert all(got[part].message not in ("", "right") for part in lost)


@pytest.mark.parametrize("name", NAMES)
def test_the_release_holds_no_solution_and_no_hidden_test(name):
    own, notebook = assignment(name, KEYS[0]), student_version(assignment(name, KEYS[0]))
    text = "\n".join(cell.source for cell in notebook.cells)
    for word in (
        "BEGIN",
        "HIDDEN",
        "SOLUTION",
        "# course:",
        "minildm.grading",
        "def judge",
        "def given",
        KEYS[0],
    ):
        assert word not in text, word
    released = {nbgrader_of(cell).get("grade_id"): cell.source for cell in notebook.cells}
    for cell in own.cells:
        if nbgrader_of(cell).get("grade_id") in own.solutions():
            for region in text_of(cell).split("### BEGIN SOLUTION\n")[1:]:
                body = region.split("### END SOLUTION")[0].strip()
                assert body not in text
                shown = released[nbgrader_of(cell)["grade_id"]]
                telling = [line.strip() for line in body.splitlines() if len(line.strip()) > 9]
                assert not [line for line in telling if line in shown]
    assert text.count("raise NotImplementedError") >= len(own.solutions())
    assert not any(cell.get("outputs") for cell in notebook.cells)


@pytest.mark.parametrize("name", NAMES)
def test_an_untouched_release_gets_0_and_no_error(name, tmp_path):
    own = assignment(name, KEYS[0])
    if name == NAMES[0]:  # one through the whole grader, the others here
        path = submissions.hand_in(tmp_path, "idle", json.loads(json.dumps(student_version(own))))
        result = grade_submission(path, own)
        assert (result.score, result.notes) == (
            0,
            ["nothing filled in: the notebook is as it was released"],
        )
        return
    module = ModuleType("submission")
    vars(module).update(names_of_setup(name, KEYS[0]))
    for cell in student_version(own).cells:
        if nbgrader_of(cell).get("grade_id") in own.solutions():
            assert perform(step(cell=cell.source), module)["error"] is None
    for part in own.parts:
        assert asked(part, own, module)["error"].startswith("NotImplementedError"), part.name


def test_the_bundle_is_readable_everywhere(tmp_path):
    own = assignment(NAMES[0], KEYS[0])
    paths = make_release({NAMES[0]: own}, tmp_path, "someone/fork")
    with zipfile.ZipFile(paths[-1]) as bundle:
        assert sorted(bundle.namelist()) == [f"{NAMES[0]}.ipynb", "README.txt"]
        assert "first cell installs it" in bundle.read("README.txt").decode()
        notebook = nbformat.reads(bundle.read(f"{NAMES[0]}.ipynb"), as_version=4)
    nbformat.validate(notebook)
    assert "colab.research.google.com/github/someone/fork" in notebook.cells[1].source
    assert "mybinder.org/v2/gh/someone/fork" in notebook.cells[1].source
    result = grade_submission(
        submissions.hand_in(tmp_path / "in", "student", fill(notebook, own)), own
    )
    assert result.score == result.out_of, result


def test_without_an_address_a_bundle_has_no_badges_and_installs_nothing(tmp_path):
    own = assignment(NAMES[0], KEYS[0])
    *_, zipped = make_release({NAMES[0]: own}, tmp_path)
    with zipfile.ZipFile(zipped) as bundle:
        text = bundle.read(f"{NAMES[0]}.ipynb").decode()
        assert "first cell" not in bundle.read("README.txt").decode()
    assert json.loads(text) == json.loads((tmp_path / f"{NAMES[0]}.ipynb").read_bytes())
    assert not [word for word in ("colab", "binder", "github", "%pip") if word in text]


def fill(notebook, own: Assignment) -> dict:
    bodies = {nbgrader_of(cell).get("grade_id"): text_of(cell) for cell in own.cells}
    made = copy.deepcopy(json.loads(json.dumps(notebook)))
    return submissions.filled_in(made, **{cell: bodies[cell] for cell in own.solutions()})
