# %% stages
import numpy as np


def without_gradients(function):
    def wrapped(*args, **kwargs):
        with torch.no_grad():
            return function(*args, **kwargs)

    return wrapped


@without_gradients
def to_latent(vae, x):
    return vae.config.scaling_factor * vae.encode(x).mode()


@without_gradients
def to_picture(vae, z):
    return torch.clamp(input=vae.decode(z / vae.config.scaling_factor), min=-1, max=1)


# %% begin
def noised(z, noise, left):
    return left**0.5 * z + (1 - left) ** 0.5 * noise


def begin(z, noise, strength, stops, alphas_cumprod):
    kept = stops[::-1][: int(round(strength * len(stops)))][::-1]
    x = noised(z=z, noise=noise, left=alphas_cumprod[kept[0]]) if kept else z
    return x, kept


# %% redraw
def ddim_step(x, v, left, left_before):
    x0 = left**0.5 * x - (1 - left) ** 0.5 * v
    epsilon = (1 - left) ** 0.5 * x + left**0.5 * v
    return noised(z=x0, noise=epsilon, left=left_before)


def with_next(stops, alphas_cumprod):
    lefts = [float(alphas_cumprod[t]) for t in stops] + [1.0]
    return zip(stops, lefts[:-1], lefts[1:])


@without_gradients
def redraw(model, z, noise, strength, stops, alphas_cumprod):
    options = {"z": z, "noise": noise, "strength": strength}
    x, kept = begin(**options, stops=stops, alphas_cumprod=alphas_cumprod)
    for t, left, before in with_next(stops=kept, alphas_cumprod=alphas_cumprod):
        x = ddim_step(x=x, v=model(x=x, t=t), left=left, left_before=before)
    return x


# %% inpaint
def blended(mask, new, old):
    return old + mask * (new - old)


@without_gradients
def inpaint(model, z, mask, noise, stops, alphas_cumprod):
    x = noise
    for t, left, before in with_next(stops=stops, alphas_cumprod=alphas_cumprod):
        x = blended(mask=mask, new=x, old=noised(z=z, noise=noise, left=left))
        x = ddim_step(x=x, v=model(x=x, t=t), left=left, left_before=before)
    return blended(mask=mask, new=x, old=z)


# %% report
def accuracy(seen, wanted):
    return np.mean(seen.numpy() == wanted.numpy())


def report(draw, classify, wanted, seeds):
    scores = np.array([accuracy(seen=classify(draw(seed)), wanted=wanted) for seed in seeds])
    return scores.mean(), scores.std(ddof=1)
