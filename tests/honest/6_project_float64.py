# %% stages
@torch.no_grad()
def to_latent(vae, x):
    return torch.einsum("bchw,->bchw", vae.encode(x).mean, torch.tensor(vae.config.scaling_factor))


@torch.no_grad()
def to_picture(vae, z):
    return vae.decode((z.double() / vae.config.scaling_factor).float()).clip(-1, 1)


# %% begin
def begin(z, noise, strength, stops, alphas_cumprod):
    n = round(strength * len(stops))
    kept = stops[len(stops) - n :]
    lefts = torch.cat([alphas_cumprod.double()[kept], torch.ones(1).double()])
    weights = torch.stack([lefts[0].sqrt(), (1 - lefts[0]).sqrt()])
    return torch.einsum("s,sbchw->bchw", weights, torch.stack([z, noise]).double()).float(), kept


# %% redraw
def ddim_step(x, v, left, left_before):
    turn = torch.acos(left.double().sqrt()) - torch.acos(left_before.double().sqrt())
    return (turn.cos() * x - turn.sin() * v).to(x.dtype)


@torch.no_grad()
def redraw(model, z, noise, strength, stops, alphas_cumprod):
    x, kept = begin(z, noise, strength, stops, alphas_cumprod)
    lefts = torch.cat([alphas_cumprod.double()[kept], torch.ones(1).double()])
    for t, left, before in zip(kept, lefts, lefts[1:]):
        x = ddim_step(x, model(x, t), left, before)
    return x


# %% inpaint
@torch.no_grad()
def inpaint(model, z, mask, noise, stops, alphas_cumprod):
    x = noise
    new = mask.bool()
    lefts = torch.cat([alphas_cumprod.double()[stops], torch.ones(1).double()])
    for t, left, before in zip(stops, lefts, lefts[1:]):
        known = (left.sqrt() * z + (1 - left).sqrt() * noise).to(z.dtype)
        x = torch.where(new, x, known)
        x = ddim_step(x, model(x, t), left, before)
    return torch.where(new, x, z)


# %% report
def report(draw, classify, wanted, seeds):
    seen = torch.stack([classify(draw(seed)) for seed in seeds])
    accuracy = (seen == wanted).double().mean(dim=1)
    return accuracy.mean().item(), accuracy.std().item()
