// From a prompt to a picture: minildm/pipelines/stable_diffusion.py once more, for the page. Chapter 11 puts it together.
// The three networks are the shipped model's own, as ONNX files, run by onnxruntime-web (WebAssembly, one thread).

import { DPMSolver } from "./scheduler.js";
import { Tokenizer } from "./tokenizer.js";

const NETWORKS = ["text_encoder", "unet", "decoder"];
const RUNTIME = ["onnxruntime.js", "onnxruntime.wasm.gzip"];

/** A file beside this one, in `folder`; `received` is told of the bytes as they come. */
async function fetchFile(folder, name, received = () => {}) {
  const response = await fetch(new URL(name, folder));
  if (!response.ok) throw new Error(`${name}: expected the file, got status ${response.status}`);
  const parts = [], reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    received(part.value.length);
  }
  return new Blob(parts);
}

/** A network in a file, ready to run. */
const open = async (ort, file) =>
  ort.InferenceSession.create(new Uint8Array(await file.arrayBuffer()), { executionProviders: ["wasm"] });

/** What is known of the model: its tokenizer, its scheduler, its sizes. A few kilobytes. */
export async function readFacts(folder) {
  const facts = JSON.parse(await (await fetchFile(folder, "model.json")).text());
  return { ...facts, tokenizer: new Tokenizer(facts.tokenizer) };
}

/** How many bytes `load` will bring. */
export const totalBytes = ({ bytes }) => Object.values(bytes).reduce((sum, size) => sum + size, 0);

/** The model, ready to draw. `progress` is told how many bytes have come. */
export async function load(folder, facts, progress = () => {}) {
  let bytes = facts.bytes[RUNTIME[0]];
  const bring = (name) => fetchFile(folder, name, (more) => progress(bytes += more));
  const [ort, wasm, ...files] = await Promise.all(
    [import(new URL(RUNTIME[0], folder)), bring(RUNTIME[1]), ...NETWORKS.map((name) => bring(`${name}.onnx`))]);
  const unpacked = wasm.stream().pipeThrough(new DecompressionStream("gzip"));
  ort.env.wasm.wasmBinary = await new Response(unpacked).arrayBuffer();
  ort.env.wasm.numThreads = 1;  // more would ask the host for special headers (COOP and COEP)
  const sessions = {};
  for (const [i, name] of NETWORKS.entries()) sessions[name] = await open(ort, files[i]);
  return new Drawing(ort, facts, sessions);
}

/** The student, which draws at once, beside the model that `load` made ready; its text encoder and decoder are the
 * model's own. */
export async function loadAtOnce(folder, drawing, progress = () => {}) {
  let bytes = 0;
  const file = await fetchFile(folder, "at_once.onnx", (more) => progress(bytes += more));
  drawing.sessions.at_once = await open(drawing.ort, file);
}

/** The networks always see two things at once: no prompt and the prompt, or the noisy latent and the expected one. */
const pair = (first, second) => Float32Array.from([...first, ...second]);
const halves = (data) => [data.slice(0, data.length / 2), data.slice(data.length / 2)];

/** unconditional + w·(conditional - unconditional): Ho & Salimans 2021, eq. 6; chapter 09. */
export const guided = (unconditional, conditional, scale) =>
  unconditional.map((value, i) => value + scale * (conditional[i] - value));

class Drawing {
  constructor(ort, facts, sessions) {
    Object.assign(this, { ort, Tensor: ort.Tensor, facts, sessions });
  }

  async run(network, inputs) {
    return (await this.sessions[network].run(inputs)).output;
  }

  /** Chapters 08 and 09: a vector for every piece of "" and of the prompt, (2, L, D). */
  encode(prompt) {
    const ids = ["", prompt].flatMap((text) => this.facts.tokenizer.read(text).ids);
    return this.run("text_encoder", { input_ids: new this.Tensor("int32", Int32Array.from(ids), [2, ids.length / 2]) });
  }

  /** Chapters 04 and 09: what the U-Net says of the latent x at time t, with guidance. */
  async predict(x, t, context, scale) {
    const sample = new this.Tensor("float32", pair(x, x), [2, ...this.facts.latents]);
    const timestep = new this.Tensor("float32", Float32Array.of(t), [1]);
    const output = await this.run("unet", { sample, timestep, encoder_hidden_states: context });
    return guided(...halves(output.data).map((half) => Array.from(half)), scale);
  }

  /** Chapter 06: two latents as pictures, {shape: [C, H, W], pixels: in [-1, 1]}. */
  async decode(first, second) {
    const latents = new this.Tensor("float32", pair(first, second), [2, ...this.facts.latents]);
    const { data, dims } = await this.run("decoder", { latents });
    return halves(data).map((pixels) => ({ shape: dims.slice(1), pixels }));
  }

  /** Chapter 15: the whole way from noise in one step, which is the end: {index, timestep, noisy, expected}. */
  async drawAtOnce({ prompt, noise }) {
    const sample = new this.Tensor("float32", pair(noise, noise), [2, ...this.facts.latents]);
    const output = await this.run("at_once", { sample, encoder_hidden_states: await this.encode(prompt) });
    const [noisy, expected] = await this.decode(noise, halves(output.data)[1]);  // the second is the prompt's
    return { index: 0, timestep: null, noisy, expected };
  }

  /** Chapter 05: the loop, step by step from noise (C·h·w numbers) to a latent. Before each step, and once at the end,
   * it yields {index, timestep, noisy, expected}: the noisy latent and the x0 that is expected of it, as pictures. */
  async *draw({ prompt, noise, steps, guidance }) {
    const context = await this.encode(prompt), solver = new DPMSolver(this.facts.scheduler, steps);
    const unguided = Math.floor(this.facts.guidance_start * solver.timesteps.length);
    let x = noise;
    for (const [index, timestep] of solver.timesteps.entries()) {
      const output = await this.predict(x, timestep, context, index < unguided ? 1 : guidance);
      const [noisy, expected] = await this.decode(x, solver.predictX0(index, output, x));
      yield { index, timestep, noisy, expected };
      x = solver.step(index, output, x);
    }
    const [noisy, expected] = await this.decode(x, x);
    yield { index: steps, timestep: null, noisy, expected };
  }
}
