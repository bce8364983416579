// minildm/diffusion/schedules.py once more, for the page, which has no Python; tests compare the
// two number by number.

const linspace = (start, end, T) =>
  Array.from({ length: T }, (_, i) => start + (end - start) * i / Math.max(T - 1, 1));

/** By diffusers' names: (T, betaStart, betaEnd) -> the betas, a list of T. */
export const BETA_SCHEDULES = {
  linear: (T, start, end) => linspace(start, end, T),
  scaled_linear: (T, start, end) =>
    linspace(Math.sqrt(start), Math.sqrt(end), T).map((root) => root ** 2),
  squaredcos_cap_v2: (T) => {  // its ends are not free
    const alphaProd = (t) => Math.cos((t / T + 0.008) / 1.008 * Math.PI / 2) ** 2;
    const beta = (t) => Math.min(1 - alphaProd(t + 1) / alphaProd(t), 0.999);
    return Array.from({ length: T }, (_, t) => beta(t));
  },
  sigmoid: (T, start, end) =>
    linspace(-6, 6, T).map((x) => (end - start) / (1 + Math.exp(-x)) + start),
};

/** What is left of the picture's variance: the product of 1 - beta up to each timestep. */
export function alphasCumprod(betas) {
  let product = 1;
  return betas.map((beta) => product *= 1 - beta);
}

export function logSnr(alphasCumprod) {
  return alphasCumprod.map((alphaProdT) => Math.log(alphaProdT) - Math.log1p(-alphaProdT));
}

/** The share that is left, shifted and stretched so that the last is 0 and the first stays (Lin et
 * al. 2023). */
export function rescaleZeroTerminalSnr(alphasCumprod) {
  const roots = alphasCumprod.map(Math.sqrt), first = roots[0], last = roots.at(-1);
  return roots.map((root) => ((root - last) * first / (first - last)) ** 2);
}

/** x_t from x_0 and noise, where `alphaProdT` is the entry of alphasCumprod at t. */
export function addNoise(x0, noise, alphaProdT) {
  const alpha = Math.sqrt(alphaProdT), sigma = Math.sqrt(1 - alphaProdT);
  return x0.map((value, i) => alpha * value + sigma * noise[i]);
}
