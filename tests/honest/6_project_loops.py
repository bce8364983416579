# %% stages
import math
import statistics


def to_latent(vae, x):
    with torch.no_grad():
        latents = []
        mean = vae.encode(x).mode()
        for one in mean:
            latents.append(one * vae.config.scaling_factor)
        return torch.stack(latents)


def to_picture(vae, z):
    with torch.no_grad():
        x = vae.decode(z / vae.config.scaling_factor)
        x[x > 1] = 1
        x[x < -1] = -1
        return x


# %% begin
def begin(z, noise, strength, stops, alphas_cumprod):
    n = round(strength * len(stops))
    kept = []
    for i in range(len(stops) - n, len(stops)):
        kept.append(stops[i])
    if n == 0:
        return z, kept
    a = float(alphas_cumprod[kept[0]])
    return math.sqrt(a) * z + math.sqrt(1 - a) * noise, kept


# %% redraw
def ddim_step(x, v, left, left_before):
    left, left_before = float(left), float(left_before)
    x0 = math.sqrt(left) * x - math.sqrt(1 - left) * v
    epsilon = math.sqrt(1 - left) * x + math.sqrt(left) * v
    return math.sqrt(left_before) * x0 + math.sqrt(1 - left_before) * epsilon


def redraw(model, z, noise, strength, stops, alphas_cumprod):
    x, kept = begin(z, noise, strength, stops, alphas_cumprod)
    for i in range(len(kept)):
        left = alphas_cumprod[kept[i]]
        left_before = 1 if i == len(kept) - 1 else alphas_cumprod[kept[i + 1]]
        with torch.no_grad():
            x = ddim_step(x, model(x, kept[i]), left, left_before)
    return x


# %% inpaint
def inpaint(model, z, mask, noise, stops, alphas_cumprod):
    x = noise.clone()
    for i in range(len(stops)):
        a = float(alphas_cumprod[stops[i]])
        known = math.sqrt(a) * z + math.sqrt(1 - a) * noise
        x = mask * x + (1 - mask) * known
        before = 1.0 if i + 1 == len(stops) else float(alphas_cumprod[stops[i + 1]])
        with torch.no_grad():
            x = ddim_step(x, model(x, stops[i]), a, before)
    return mask * x + (1 - mask) * z


# %% report
def report(draw, classify, wanted, seeds):
    accuracies = []
    for seed in seeds:
        seen = classify(draw(seed)).tolist()
        right = 0
        for a, b in zip(seen, wanted.tolist()):
            right += a == b
        accuracies.append(right / len(seen))
    return statistics.mean(accuracies), statistics.stdev(accuracies)
