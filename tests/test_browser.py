"""The front page's JavaScript beside Python: tokens, steps of the sampler, the way from a prompt to
a picture, noise. (tests_browser/ has the networks.)"""

import json
import random
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from py_mini_racer import JSEvalException, MiniRacer
from torch import nn

from minildm import CLIPTokenizer, DPMSolverMultistepScheduler, StableDiffusionPipeline
from minildm.widgets.page import script, without_exports, without_imports

BROWSER = Path(__file__).parent.parent / "browser"
PROMPTS = [
    "",
    " \t\n",
    "a handwritten seven",
    "A Handwritten SEVEN",
    "the digit 3",
    "a picture of the number 10",
    "a handwritten zebra",
    "it's 10 o'clock, isn't it? we'LL see!!",
    "seventy handwritten numbers handwritten",
    "né n\u0065\u0301 É Œuvre",
    "ΟΔΥΣΣΕΥΣ ΣΑΣ",
    "İstanbul ẞ ﬁ Ǆ K",
    "数字 七 の絵 ٣ ² ½ Ⅷ",
    "🙂👩‍👩‍👧 5",
    "a\u00a0seven\u2003of\u2028eight\x85nine\ufeffsix\x1ffive\u200bfour",
    "<|endoftext|> a <|startoftext|>seven<|EndOfText|>",
    "<|endoftext|",
    "%41 a+b&c=d #$€ (~_*) \\ `x` \"y\" 'tis 's",
    "t h th the the</w> </w>",
    "a handwritten picture of the number eight and of the digit three and of the number zero",
    "an unbelievablyimprobablewordwithmanypieces at the end seven",
]


def engine(*names):
    """V8 with these files of browser/ in one script; what they import stands among them or in the
    widgets' folder."""
    made = MiniRacer()
    made.eval(without_exports(script("schedules.js")))
    for name in names:
        source = (BROWSER / name).read_text(encoding="utf-8")
        made.eval(without_exports(without_imports(source)))
    return lambda code: json.loads(made.eval(f"JSON.stringify({code})"))


@pytest.fixture(scope="module")
def tokenizer():
    return StableDiffusionPipeline.from_pretrained("mnist").tokenizer


def handed_over(tokenizer):
    """What the page knows of Python's tokenizer, as browser/build.py tells it."""
    return {
        "vocab": list(tokenizer.vocab),
        "merges": [" ".join(merge) for merge in tokenizer.merges],
        "model_max_length": tokenizer.model_max_length,
        "special_tokens": tokenizer.special_tokens,
        "known_words": sorted(tokenizer.known_words),
    }


def reader(tokenizer):
    """The page's `read` with the vocabulary of Python's tokenizer."""
    run = engine("tokenizer.js")
    facts = json.dumps(handed_over(tokenizer))
    run(f"(globalThis.tokenizer = new Tokenizer({facts})).length")
    return lambda text: run(f"tokenizer.read({json.dumps(text)})")


@pytest.fixture(scope="module")
def read(tokenizer):
    return reader(tokenizer)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_page_reads_a_prompt_as_python_does(tokenizer, read, prompt):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ids = tokenizer(prompt)[0].tolist()
    got = read(prompt)
    assert got["ids"] == ids
    assert got["words"] == tokenizer.words(prompt)
    assert got["pieces"] == tokenizer.tokenize(prompt)
    assert got["unknown"] == tokenizer.unknown_words(prompt)
    said = (
        [f"the prompt takes {got['needed']} tokens, {len(ids)} fit: cut off {got['cut']!r}"]
        if got["cut"]
        else []
    )
    assert [str(warning.message) for warning in caught] == said


def test_some_of_the_prompts_are_cut_and_some_hold_unknown_words(read):
    answers = [read(prompt) for prompt in PROMPTS]
    assert sum(bool(answer["cut"]) for answer in answers) >= 3
    assert sum(bool(answer["unknown"]) for answer in answers) >= 5


def test_any_mixture_of_characters_becomes_the_same_numbers(tokenizer, read):
    chance = random.Random(0)
    blocks = [
        (32, 127),
        (0, 256),
        (0x300, 0x600),
        (0x1E00, 0x2200),
        (0x3000, 0x3200),
        (0xFB00, 0xFB10),
        (0x1F600, 0x1F640),
    ]
    for _ in range(300):
        chars = [
            chr(chance.randrange(*chance.choice(blocks))) for _ in range(chance.randrange(1, 12))
        ]
        # V8 and Python may know different versions of Unicode, which differ in characters added
        # since
        text = "".join(char for char in chars if unicodedata.category(char) != "Cn")
        assert read(text)["pieces"] == tokenizer.tokenize(text), text.encode("unicode_escape")


def test_a_tokenizer_that_knows_no_training_words_calls_none_unknown():
    learnt = CLIPTokenizer.train(["a red seven on a blue ground"])
    silent = CLIPTokenizer(learnt.vocab, learnt.merges, 8)
    assert reader(learnt)("a zebra")["unknown"] == ["zebra"]
    assert reader(silent)("a zebra")["unknown"] == []
    assert reader(silent)("a red zebra")["ids"] == _quiet(silent, "a red zebra")


def _quiet(tokenizer, text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tokenizer(text)[0].tolist()


CLASS = {"_class_name": "DPMSolverMultistepScheduler"}
SHIPPED = {**StableDiffusionPipeline.from_pretrained("mnist").scheduler.config, **CLASS}
CONFIGS = {
    "shipped": {},
    "trailing": {"timestep_spacing": "trailing"},
    "linspace": {"timestep_spacing": "linspace"},
    "epsilon": {"prediction_type": "epsilon", "beta_schedule": "scaled_linear"},
    "sample": {"prediction_type": "sample", "beta_schedule": "linear"},
    "first order": {"solver_order": 1},
    "sigma_min, few steps": {"final_sigmas_type": "sigma_min"},
    "sigma_min": {"final_sigmas_type": "sigma_min", "lower_order_final": False},
    "sigma_min, Euler at the end": {"final_sigmas_type": "sigma_min", "euler_at_final": True},
    "zero terminal SNR": {
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "beta_schedule": "linear",
    },
    "trained betas": {
        "trained_betas": [0.001 * i for i in range(1, 51)],
        "num_train_timesteps": 50,
    },
}


@pytest.fixture(scope="module")
def sampler():
    run = engine("scheduler.js")
    run("""(globalThis.visit = (config, outputs, x) => {
      const solver = new DPMSolver(config, outputs.length), way = [];
      outputs.forEach((output, i) => {
        way.push(solver.predictX0(i, output, x), x = solver.step(i, output, x));
      });
      return { timesteps: solver.timesteps, way };
    }) ? 1 : 0""")
    return run


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("count", [1, 2, 5, 10, 20, 30])
def test_every_step_lands_where_pythons_does(sampler, changes, count):
    config = {**SHIPPED, **changes}
    scheduler = DPMSolverMultistepScheduler.from_config(config)
    scheduler.set_timesteps(count)
    generator = torch.Generator().manual_seed(count)
    outputs = torch.randn(len(scheduler.timesteps), 6, generator=generator)
    x = start = torch.randn(6, generator=generator)
    way = []
    for t, output in zip(scheduler.timesteps, outputs, strict=True):
        way.append(scheduler.predict_x0(output, t, x))
        x = scheduler.step(output, t, x)
        way.append(x)
    got = sampler(f"visit({json.dumps(config)}, {outputs.tolist()}, {start.tolist()})")
    assert got["timesteps"] == scheduler.timesteps.tolist()
    # float32 there, float64 here: where little is left of the picture, dividing by α makes the
    # difference large
    expected = torch.stack(way)
    torch.testing.assert_close(torch.tensor(got["way"]), expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_the_timesteps_are_pythons_at_every_number_of_steps(sampler, spacing):
    config = {**SHIPPED, "timestep_spacing": spacing}
    scheduler = DPMSolverMultistepScheduler.from_config(config)
    got = sampler(f"Array.from({{length: 200}}, (_, i) => spaced({json.dumps(config)}, i + 1))")
    for count in range(1, 201):
        scheduler.set_timesteps(count)
        assert got[count - 1] == scheduler.timesteps.tolist(), count


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"_class_name": "DDIMScheduler"}, "DDIMScheduler"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas"),
    ],
)
def test_a_sampler_that_the_page_does_not_have_is_an_error_that_names_it(sampler, changes, got):
    with pytest.raises(JSEvalException, match=f"expected a .*, got {got}"):
        sampler(f"new DPMSolver({json.dumps({**SHIPPED, **changes})}, 5)")


# The way from a prompt to a picture, with networks that are formulas


class Reads(nn.Module):
    """In the text encoder's place: sin(id), (B, L) -> (B, L, 1)."""

    device = torch.device("cpu")

    def forward(self, input_ids):
        return torch.sin(input_ids.float())[..., None]


class Says(nn.Module):
    """In the U-Net's place: tanh(x / 2 + cos(t / 100) + Σ_l (l + 1)·text_l / 40)."""

    def forward(self, sample, timestep, encoder_hidden_states):
        places = torch.arange(1.0, encoder_hidden_states.shape[1] + 1)
        told = encoder_hidden_states[..., 0] @ places / 40
        shift = torch.cos(timestep / 100) + told
        return torch.tanh(sample / 2 + shift.reshape(-1, 1, 1, 1))


class Shows(nn.Module):
    """In the decoder's place: half of the latent, its channels one below the other."""

    def __init__(self, config):
        super().__init__()
        self.config = config

    def decode(self, z):
        return (z * self.config.scaling_factor / 2).reshape(len(z), 1, -1, z.shape[-1])


FORMULAS = """
const asked = [];
const rows = (count, make) => Array.from({ length: count }, (_, i) => make(i));
const sessions = {
  text_encoder: { run: async ({ input_ids }) => ({ output: {
    dims: [...input_ids.dims, 1], data: Float32Array.from(input_ids.data, Math.sin) } }) },
  unet: { run: async ({ sample, timestep, encoder_hidden_states: { dims, data } }) => {
    asked.push(timestep.data[0]);
    const told = rows(2, (b) => rows(dims[1], (l) => (l + 1) * data[b * dims[1] + l] / 40)
      .reduce((sum, part) => sum + part));
    const size = sample.data.length / 2, moment = Math.cos(timestep.data[0] / 100);
    const say = (x, i) => Math.tanh(x / 2 + moment + told[Math.floor(i / size)]);
    return { output: { dims: sample.dims, data: sample.data.map(say) } };
  } },
  decoder: { run: async ({ latents: { dims: [count, c, h, w], data } }) => ({ output: {
    dims: [count, 1, c * h, w], data: data.map((x) => Math.min(Math.max(x / 2, -1), 1)) } }) },
};
class Given { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
async function drawAll(facts, asked) {
  const tokenizer = new Tokenizer(facts.tokenizer);
  const drawing = new Drawing({ Tensor: Given }, { ...facts, tokenizer }, sessions);
  const frames = [];
  for await (const { index, timestep, noisy, expected } of drawing.draw(asked)) {
    const [a, b] = [noisy, expected].map(({ shape, pixels }) => ({ shape, pixels: [...pixels] }));
    frames.push({ index, timestep, noisy: a, expected: b });
  }
  return JSON.stringify(frames);
}
"""


@pytest.fixture(scope="module")
def draw_all():
    made = MiniRacer()
    made.eval(without_exports(script("schedules.js")))
    for name in ("scheduler.js", "tokenizer.js", "drawing.js"):
        made.eval(without_exports(without_imports((BROWSER / name).read_text(encoding="utf-8"))))
    made.eval(FORMULAS)

    def call(facts, asked):
        promise = made.eval(f"drawAll({json.dumps(facts)}, {json.dumps(asked)})")
        return json.loads(promise.get(timeout=60))

    return call


@pytest.mark.parametrize(
    ("prompt", "steps", "guidance", "start", "changes"),
    [
        ("a handwritten seven", 10, 1.75, 0.0, {}),
        ("the digit 3", 7, 4.0, 0.3, {}),  # two of seven steps without guidance
        ("", 13, 2.5, 0.5, {"timestep_spacing": "trailing"}),
        ("eight", 1, 3.0, 0.0, {}),
        ("two", 3, 8.0, 0.9, {"prediction_type": "epsilon", "beta_schedule": "scaled_linear"}),
        ("five", 30, 1.0, 0.0, {"final_sigmas_type": "sigma_min"}),
    ],
)
def test_from_a_prompt_and_noise_the_page_goes_the_way_that_python_goes(
    draw_all, tokenizer, prompt, steps, guidance, start, changes
):
    """The texts, in their order; guidance and when it begins; the steps; both pictures of each."""
    config = {**SHIPPED, **changes}
    shipped = StableDiffusionPipeline.from_pretrained("mnist")
    pipeline = StableDiffusionPipeline.from_pipe(
        shipped,
        unet=Says(),
        text_encoder=Reads(),
        vae=Shows(shipped.vae.config),
        scheduler=DPMSolverMultistepScheduler.from_config(config),
    )
    noise = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(steps))
    context = pipeline.encode_prompt(prompt, guidance=guidance > 1)
    expected = []

    def keep(step, timestep, x, x0):
        expected.append((step, timestep.item(), pipeline.decode(x)[0], pipeline.decode(x0)[0]))

    latents = pipeline.denoise(noise, context, steps, guidance, guidance_start=start, callback=keep)
    end = pipeline.decode(latents)[0]
    expected.append((steps, None, end, end))

    facts = {
        "tokenizer": handed_over(tokenizer),
        "scheduler": config,
        "latents": list(noise.shape[1:]),
        "guidance_start": start,
    }
    asked = {
        "prompt": prompt,
        "noise": noise.flatten().tolist(),
        "steps": steps,
        "guidance": guidance,
    }
    frames = draw_all(facts, asked)
    assert [(frame["index"], frame["timestep"]) for frame in frames] == [
        (index, timestep) for index, timestep, *_ in expected
    ]
    for frame, (*_, noisy, x0) in zip(frames, expected, strict=True):
        for got, picture in ((frame["noisy"], noisy), (frame["expected"], x0)):
            assert got["shape"] == list(picture.shape)
            torch.testing.assert_close(
                torch.tensor(got["pixels"]).reshape(picture.shape), picture, rtol=0, atol=1e-4
            )


def test_the_noise_is_standard_normal_and_its_seeds_are_unlike():
    run = engine("noise.js")
    rows = np.array(run("Array.from({length: 2000}, (_, seed) => normal(seed, 128))"))
    assert scipy.stats.kstest(rows.ravel(), "norm").pvalue > 0.01
    assert scipy.stats.kstest(rows[:, 0], "norm").pvalue > 0.01  # the first number of each seed
    neighbours = (rows[1:] * rows[:-1]).mean(axis=1)
    assert abs(neighbours.mean()) < 4 / np.sqrt(rows.size)
    assert neighbours.std() == pytest.approx(1 / np.sqrt(128), rel=0.1)
    pairs = (rows[:, ::2] * rows[:, 1::2]).mean()  # the two coordinates of a point
    assert abs(pairs) < 4 / np.sqrt(rows.size / 2)
    assert run("normal(7, 5)") == run("normal(7, 128)")[:5]
    assert run("normal(2 ** 32 - 1, 3).every(Number.isFinite)")
