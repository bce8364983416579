# %% gaussian
def deviation(logvar):
    return torch.sqrt(torch.exp(logvar))


def draw(mean, logvar, generator):
    noise = torch.normal(mean=0.0, std=1.0, size=tuple(mean.shape), generator=generator)
    return deviation(logvar=logvar) * noise + mean


def per_picture(numbers):
    return numbers.sum(dim=list(range(1, numbers.ndim)))


def kl(mean, logvar):
    return per_picture(0.5 * (mean**2 + deviation(logvar) ** 2 - 1 - logvar))


# %% vae
class Down(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels=i, out_channels=o, kernel_size=4, stride=2, padding=1, bias=False
        )

    def forward(self, x):
        return nn.functional.leaky_relu(self.conv(x), negative_slope=0.2)


class TinyVAE(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.down = nn.Sequential(Down(i=1, o=width), Down(i=width, o=width))
        self.moments = nn.Conv2d(width, 2 * LATENT_CHANNELS, kernel_size=1)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(LATENT_CHANNELS, width, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 1, kernel_size=4, stride=2, padding=1),
        )

    def encode(self, x):
        mean, logvar = torch.tensor_split(self.moments(self.down(x)), 2, dim=1)
        return mean, torch.clip(input=logvar, min=-30, max=20)

    def decode(self, z):
        return self.up(z)


# %% loss
def squared_error(a, b):
    return nn.functional.mse_loss(input=a, target=b, reduction="sum") / a.shape[0]


def vae_loss(x, reconstruction, mean, logvar, beta):
    return squared_error(a=reconstruction, b=x) + beta * torch.mean(kl(mean=mean, logvar=logvar))


# %% scale
def scaling_factor(z):
    centred = z - z.mean()
    return float(1 / centred.square().mean().sqrt())


def to_diffusion(z, factor):
    return torch.mul(z, factor)


def from_diffusion(z, factor):
    return torch.div(z, factor)


# %% walk
def between(start, end, share):
    return torch.lerp(start, end, share)


def walk(encode, decode, a, b, stops):
    latents = encode(torch.stack(tensors=[a, b], dim=0))
    places = [
        between(latents[0], latents[1], float(share)) for share in torch.linspace(0, 1, stops)
    ]
    return decode(torch.stack(places))
