# %% timesteps
import numpy as np


def timesteps(T, steps):
    return list(np.rint(np.linspace(start=T, stop=0, num=steps, endpoint=False)).astype(int) - 1)


# %% step
def predicted_x0(xt, epsilon, left):
    return (xt - (1 - left) ** 0.5 * epsilon) / left**0.5


def noised(x0, epsilon, left):
    return left**0.5 * x0 + (1 - left) ** 0.5 * epsilon


def ddim_step(xt, epsilon, left, left_before):
    x0 = predicted_x0(xt=xt, epsilon=epsilon, left=left)
    return noised(x0=x0, epsilon=epsilon, left=left_before)


# %% sample
def pairs(stops):
    return zip(stops, [*stops[1:], None], strict=True)


def sample(model, x, stops, alphas_cumprod):
    def share(t):
        return 1.0 if t is None else alphas_cumprod[t].item()

    with torch.inference_mode():
        for now, after in pairs(stops=stops):
            epsilon = model(x=x, t=now)
            x = ddim_step(xt=x, epsilon=epsilon, left=share(now), left_before=share(after))
    return x


# %% guidance
def guided(model, x, t, context, empty, scale):
    answer = model(x=torch.cat([x] * 2), t=t, context=torch.cat([context, empty]))
    conditional, unconditional = torch.split(answer, len(x))
    return torch.lerp(input=unconditional, end=conditional, weight=scale)


# %% heun
class Walker:
    def __init__(self, denoise):
        self.denoise = denoise

    def slope(self, x, sigma):
        return (x - self.denoise(x=x, sigma=sigma)) / sigma

    def euler(self, x, sigma, sigma_next):
        return x + (sigma_next - sigma) * self.slope(x=x, sigma=sigma)

    def heun(self, x, sigma, sigma_next):
        trial = self.euler(x=x, sigma=sigma, sigma_next=sigma_next)
        if sigma_next == 0:
            return trial
        again = x + (sigma_next - sigma) * self.slope(x=trial, sigma=sigma_next)
        return (trial + again) / 2


def heun_step(denoise, x, sigma, sigma_next):
    return Walker(denoise=denoise).heun(x=x, sigma=sigma, sigma_next=sigma_next)
