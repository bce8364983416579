# %% timesteps
import math

import numpy as np


def timesteps(T, steps):
    result = []
    for i in range(steps):
        result.append(int(T - i * T / steps + 0.5) - 1)
    return result


# %% step
def ddim_step(xt, epsilon, left, left_before):
    x0 = (xt - math.sqrt(1 - left) * epsilon) / math.sqrt(left)
    return math.sqrt(left_before) * x0 + math.sqrt(1 - left_before) * epsilon


# %% sample
def sample(model, x, stops, alphas_cumprod):
    x = x.clone()
    for i in range(len(stops)):
        t = int(stops[i])
        with torch.no_grad():
            epsilon = model(x, t)
        left_before = 1.0
        if i < len(stops) - 1:
            left_before = float(alphas_cumprod[stops[i + 1]])
        x = ddim_step(x, epsilon, float(alphas_cumprod[t]), left_before)
    return x


# %% guidance
def guided(model, x, t, context, empty, scale):
    both_x = torch.cat([x, x], dim=0)
    both_context = torch.cat([context, empty], dim=0)
    answer = model(both_x, t, both_context)
    result = []
    for i in range(len(x)):
        with_prompt, without = answer[i], answer[len(x) + i]
        result.append(without + scale * (with_prompt - without))
    return torch.stack(result)


# %% heun
def heun_step(denoise, x, sigma, sigma_next):
    h = sigma_next - sigma
    d1 = (x - denoise(x, sigma)) / sigma
    x_euler = x + h * d1
    if sigma_next == 0:
        return x_euler
    d2 = (x_euler - denoise(x_euler, sigma_next)) / sigma_next
    return x + h * 0.5 * d1 + h * 0.5 * d2
