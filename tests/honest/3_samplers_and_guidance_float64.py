# %% timesteps
def timesteps(T, steps):
    return (torch.round(T - torch.arange(steps).double() * T / steps) - 1).long().tolist()


# %% step
def ddim_step(xt, epsilon, left, left_before):
    left = torch.as_tensor(left, dtype=torch.float64)
    left_before = torch.as_tensor(left_before, dtype=torch.float64)
    turn = left.sqrt().acos() - left_before.sqrt().acos()
    v = left.sqrt() * epsilon.double() - (1 - left).sqrt() * xt_to_x0(xt, epsilon, left)
    return (turn.cos() * xt.double() - turn.sin() * v).to(xt.dtype)


def xt_to_x0(xt, epsilon, left):
    return (xt.double() - (1 - left).sqrt() * epsilon.double()) / left.sqrt()


# %% sample
@torch.no_grad()
def sample(model, x, stops, alphas_cumprod):
    lefts = torch.cat([alphas_cumprod.double()[torch.as_tensor(stops)], torch.ones(1).double()])
    for t, left, left_before in zip(stops, lefts[:-1], lefts[1:]):
        x = ddim_step(x, model(x, t), left, left_before)
    return x


# %% guidance
def guided(model, x, t, context, empty, scale):
    t = torch.full((2 * len(x),), t)  # a timestep for each picture of the batch
    answer = model(x.repeat(2, *[1] * (x.ndim - 1)), t, torch.cat((empty, context)))
    weights = torch.tensor([1 - scale, scale], dtype=answer.dtype)
    return torch.einsum("s,sb...->b...", weights, answer.unflatten(0, (2, -1)))


# %% heun
def heun_step(denoise, x, sigma, sigma_next):
    x = x.double()

    def slope(x, sigma):
        return (x - denoise(x, sigma)) / sigma

    first = slope(x, sigma)
    trial = x + (sigma_next - sigma) * first
    slopes = torch.stack([first, first if sigma_next == 0 else slope(trial, sigma_next)])
    result = x + (sigma_next - sigma) * torch.einsum(
        "s...,s->...", slopes, torch.full((2,), 0.5).double()
    )
    return result
