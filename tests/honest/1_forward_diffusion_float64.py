# %% schedule
def linear_betas(T, beta_start, beta_end):
    return torch.linspace(beta_start, beta_end, T, dtype=torch.float64)


def alphas_cumprod(betas):
    return (1 - betas).double().log().cumsum(0).exp().to(betas.dtype)


# %% add-noise
def add_noise(x0, noise, t, alphas_cumprod):
    a = alphas_cumprod.double()[t]
    x0, noise = x0.double(), noise.double()
    return torch.einsum("b,b...->b...", a**0.5, x0) + torch.einsum(
        "b,b...->b...", (1 - a) ** 0.5, noise
    )


# %% tie
def tie(alphas_cumprod):
    a = alphas_cumprod.double()
    snr = a / (1 - a)
    return int((snr < 1).nonzero()[0])


def wasted(alphas_cumprod, share):
    return (alphas_cumprod < share).double().mean().item()


# %% names
def predict_x0(said, kind, xt, left):
    angle = torch.acos(torch.tensor(left, dtype=torch.float64).sqrt())
    cos, sin = angle.cos(), angle.sin()
    match kind:
        case "epsilon":
            return ((xt - sin * said) / cos).to(xt.dtype)
        case "v_prediction":
            return cos * xt - sin * said
        case "sample":
            return said
    raise ValueError(kind)


# %% posterior
def posterior(x0, xt, left, left_before):
    # DDPM, equation 7
    beta = 1 - left / left_before
    x0, xt = x0.double(), xt.double()
    mean = left_before**0.5 * beta / (1 - left) * x0
    mean = mean + (1 - beta) ** 0.5 * (1 - left_before) / (1 - left) * xt
    return mean, torch.tensor((1 - left_before) / (1 - left) * beta, dtype=torch.float64)
