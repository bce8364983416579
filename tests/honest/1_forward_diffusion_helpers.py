# %% schedule
from typing import Literal


def linear_betas(T: int, beta_start: float, beta_end: float) -> torch.Tensor:
    step = (beta_end - beta_start) / (T - 1)
    return beta_start + step * torch.arange(T)


def alphas_cumprod(betas: torch.Tensor) -> torch.Tensor:
    return torch.cumprod(input=1.0 - betas, dim=-1)


# %% add-noise
def like(numbers, pictures):
    """(B,) -> (B, 1, 1, 1), or as many ones as it takes."""
    while numbers.ndim < pictures.ndim:
        numbers = numbers.unsqueeze(dim=-1)
    return numbers


def mix(*, signal, noise, share):
    return torch.sqrt(share) * signal + torch.sqrt(1 - share) * noise


def add_noise(x0, noise, t, alphas_cumprod):
    share = like(numbers=alphas_cumprod.gather(dim=0, index=t), pictures=x0)
    return mix(signal=x0, noise=noise, share=share)


# %% tie
def snr(left):
    return left / (1 - left)


def tie(alphas_cumprod):
    return torch.argmax((snr(left=alphas_cumprod) < 1).int())


def wasted(alphas_cumprod, share):
    return sum(alphas_cumprod < share) / len(alphas_cumprod)


# %% names
class Names:
    def __init__(self, xt, left):
        self.xt, self.left = xt, left

    def epsilon(self, said):
        return (self.xt - (1 - self.left) ** 0.5 * said) / self.left**0.5

    def v_prediction(self, said):
        return self.left**0.5 * self.xt - (1 - self.left) ** 0.5 * said

    def sample(self, said):
        return said


def predict_x0(said, kind: Literal["epsilon", "v_prediction", "sample"], xt, left):
    if kind not in ("epsilon", "v_prediction", "sample"):
        raise ValueError(f"unknown kind {kind}")
    return getattr(Names(xt=xt, left=left), kind)(said=said)


# %% posterior
def weighted(values, precisions):
    total = sum(precisions)
    return sum(v * p for v, p in zip(values, precisions)) / total, 1 / total


def posterior(x0, xt, left, left_before):
    alpha = left / left_before
    return weighted(
        values=[left_before**0.5 * x0, xt / alpha**0.5],
        precisions=[1 / (1 - left_before), alpha / (1 - alpha)],
    )
