// DPM-Solver++ (Lu et al. 2022): minildm/schedulers/ once more, for the page. Chapter 02 has the noise schedule,
// chapter 05 the sampler. It obeys the model's scheduler_config.json; tests/test_browser.py compares it with Python's.

import { BETA_SCHEDULES, alphasCumprod, rescaleZeroTerminalSnr } from "./schedules.js";

// What only Python's can do; asked for here, it is an error.
const ELSEWHERE = ["use_flow_sigmas", "use_karras_sigmas", "use_exponential_sigmas"];

/** To the nearest whole number, halves to the even one, as numpy does. */
const round = (x) => (x % 1 === 0.5 && Math.floor(x) % 2 === 0 ? Math.floor(x) : Math.round(x));
const range = (count) => Array.from({ length: count }, (_, i) => i);

/** `count` timesteps, falling (Lin et al. 2023, table 2). "leading" never visits the noisiest, "trailing" starts there,
 * "linspace" has both ends; but for "trailing", one more is counted for the end, which is then left out. */
export function spaced({ num_train_timesteps: most, timestep_spacing, steps_offset }, count) {
  if (timestep_spacing === "trailing") {
    const stride = most - (most - most / count);
    return range(count).map((i) => round(most - i * stride) - 1);
  }
  const places = range(count + 1).reverse().slice(0, -1);
  if (timestep_spacing === "leading") return places.map((i) => i * Math.floor(most / (count + 1)) + steps_offset);
  return places.map((i) => round(i * ((most - 1) / count)));
}

/** σ of x/√ᾱ = x0 + σ·ε at every timestep, from the schedule. */
export function allSigmas(config) {
  const { num_train_timesteps: T, beta_schedule, beta_start, beta_end, trained_betas } = config;
  let alphaProdT = alphasCumprod(trained_betas ?? BETA_SCHEDULES[beta_schedule](T, beta_start, beta_end));
  if (config.rescale_betas_zero_snr) alphaProdT = [...rescaleZeroTerminalSnr(alphaProdT).slice(0, -1), 2 ** -24];
  return alphaProdT.map((share) => Math.sqrt((1 - share) / share));
}

/** x = α·x0 + σ'·ε: the two factors, from σ = σ'/α. */
const factors = (sigma) => { const alpha = 1 / Math.sqrt(sigma ** 2 + 1); return [alpha, sigma * alpha]; };

/** λ = log(α/σ), the time in which the way is nearly straight; Infinity where there is no noise. */
const lambda = ([alpha, sigma]) => Math.log(alpha) - Math.log(sigma);

/** x0 from what the network said of x: the noise, x0 itself, or v = α·ε - σ·x0 (Salimans & Ho 2022). */
export function toX0(predictionType, output, x, [alpha, sigma]) {
  if (predictionType === "epsilon") return x.map((value, i) => (value - sigma * output[i]) / alpha);
  return predictionType === "sample" ? output : x.map((value, i) => alpha * value - sigma * output[i]);
}

export class DPMSolver {
  constructor(config, count) {
    const name = config._class_name, more = ELSEWHERE.filter((key) => config[key]);
    if (name !== "DPMSolverMultistepScheduler") throw new Error(`expected a DPMSolverMultistepScheduler, got ${name}`);
    if (more.length > 0) throw new Error(`expected a scheduler without ${ELSEWHERE.join(", ")}, got ${more}`);
    const sigmas = allSigmas(config), end = config.final_sigmas_type === "sigma_min" ? sigmas[0] : 0;
    this.config = config;
    this.timesteps = spaced(config, count);
    this.stops = [...this.timesteps.map((t) => sigmas[t]), end].map(factors);  // [α, σ] at every timestep and the end
    this.before = null;  // the x0 expected at the step before
  }

  predictX0(i, output, x) {
    return toX0(this.config.prediction_type, output, x, this.stops[i]);
  }

  /** From x at timestep i to x at the next. At first order (DDIM) the expected x0 stays as it is on the way (eq. 17);
   * at second order it goes on changing as it did since the step before (algorithm 2). */
  step(i, output, x) {
    const x0 = this.predictX0(i, output, x), [now, to] = this.stops.slice(i, i + 2);
    const h = lambda(to) - lambda(now);
    let target = x0;
    if (this.config.solver_order === 2 && this.before !== null && !this.endsAtFirstOrder(i)) {
      const ratio = h / (lambda(now) - lambda(this.stops[i - 1]));
      target = x0.map((value, k) => value + ratio * (value - this.before[k]) / 2);
    }
    this.before = x0;
    return x.map((value, k) => to[1] / now[1] * value - to[0] * Math.expm1(-h) * target[k]);
  }

  /** At the last step where it ends without noise, for λ is infinite there, or where steps are few. */
  endsAtFirstOrder(i) {
    const { lower_order_final, euler_at_final, final_sigmas_type } = this.config, steps = this.timesteps.length;
    const few = lower_order_final && steps < 15;
    return i === steps - 1 && (euler_at_final || few || final_sigmas_type === "zero");
  }
}
