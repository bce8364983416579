# %% schedule
import math

import numpy as np


def linear_betas(T, beta_start, beta_end):
    betas = torch.zeros(T)
    for i in range(T):
        betas[i] = beta_start + (beta_end - beta_start) * i / (T - 1)
    return betas


def alphas_cumprod(betas):
    left = 1.0
    result = []
    for beta in betas:
        left = left * (1 - float(beta))
        result.append(left)
    return torch.tensor(result)


# %% add-noise
def add_noise(x0, noise, t, alphas_cumprod):
    xt = torch.zeros_like(x0)
    for i in range(len(x0)):
        a = float(alphas_cumprod[int(t[i])])
        xt[i] = math.sqrt(a) * x0[i] + math.sqrt(1 - a) * noise[i]
    return xt


# %% tie
def tie(alphas_cumprod):
    for i, a in enumerate(alphas_cumprod.tolist()):
        if a / (1 - a) < 1:
            return i
    return len(alphas_cumprod)


def wasted(alphas_cumprod, share):
    count = 0
    for a in alphas_cumprod.tolist():
        if a < share:
            count += 1
    return count / len(alphas_cumprod)


# %% names
def predict_x0(said, kind, xt, left):
    if kind == "sample":
        return said
    if kind == "epsilon":
        return (xt - np.sqrt(1 - left) * said) / np.sqrt(left)
    if kind == "v_prediction":
        return np.sqrt(left) * xt - np.sqrt(1 - left) * said
    raise ValueError("kind must be epsilon, v_prediction or sample, not " + str(kind))


# %% posterior
def posterior(x0, xt, left, left_before):
    alpha = left / left_before
    p0 = 1 / (1 - left_before)
    pt = alpha / (1 - alpha)
    mean = torch.zeros_like(x0)
    for i in range(len(x0)):
        witness0 = math.sqrt(left_before) * x0[i]
        witness_t = xt[i] / math.sqrt(alpha)
        mean[i] = (p0 * witness0 + pt * witness_t) / (p0 + pt)
    return mean, 1 / (p0 + pt)
