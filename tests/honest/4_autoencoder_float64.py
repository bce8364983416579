# %% gaussian
def draw(mean, logvar, generator):
    noise = torch.empty_like(mean, dtype=torch.float64).normal_(generator=generator)
    return torch.addcmul(mean.double(), logvar.double().mul(0.5).exp(), noise).to(mean.dtype)


def kl(mean, logvar):
    mean, logvar = mean.double().flatten(1), logvar.double().flatten(1)
    squares = torch.einsum("bi,bi->b", mean, mean)
    return 0.5 * (squares + torch.expm1(logvar).sum(1) - torch.einsum("bi->b", logvar))


# %% vae
class TinyVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.GroupNorm(8, 32),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.GroupNorm(8, 32),
            nn.SiLU(),
            nn.Conv2d(32, 2 * LATENT_CHANNELS, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(LATENT_CHANNELS, 32, 3, padding=1),
            nn.GroupNorm(8, 32),
            nn.SiLU(),
            nn.Conv2d(32, 16, 3, padding=1),
            nn.PixelShuffle(4),
            nn.Tanh(),
        )

    def encode(self, x):
        moments = self.encoder(x)
        mean, logvar = moments[:, :LATENT_CHANNELS], moments[:, LATENT_CHANNELS:]
        return mean, torch.clamp(logvar, min=-30.0, max=20.0)

    def decode(self, z):
        return self.decoder(z)


# %% loss
def vae_loss(x, reconstruction, mean, logvar, beta):
    error = (x - reconstruction).double()
    return torch.einsum("bchw,bchw->", error, error) / len(x) + beta * kl(mean, logvar).mean()


# %% scale
def scaling_factor(z):
    return z.double().var().rsqrt()


def to_diffusion(z, factor):
    return torch.einsum("bchw,->bchw", z.double(), torch.as_tensor(factor).double())


def from_diffusion(z, factor):
    return torch.einsum("bchw,->bchw", z.double(), 1 / torch.as_tensor(factor).double())


# %% walk
def walk(encode, decode, a, b, stops):
    start, end = encode(torch.stack([a, b]))
    shares = torch.linspace(0, 1, stops)
    z = torch.einsum("s,chw->schw", 1 - shares, start) + torch.einsum("s,chw->schw", shares, end)
    return decode(z)
