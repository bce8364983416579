# %% gaussian
import math

import numpy as np


def draw(mean, logvar, generator):
    noise = torch.randn(mean.shape, generator=generator)
    sigma = torch.exp(logvar / 2)
    return torch.stack([mean[i] + sigma[i] * noise[i] for i in range(len(mean))])


def kl(mean, logvar):
    result = []
    for m, lv in zip(mean, logvar):
        total = 0
        for mu, log in zip(m.reshape(-1), lv.reshape(-1)):
            total = total + 0.5 * (mu**2 + torch.exp(log) - 1 - log)
        result.append(total)
    return torch.stack(result)


# %% vae
class TinyVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.to_mean = nn.Conv2d(16, LATENT_CHANNELS, 1)
        self.to_logvar = nn.Conv2d(16, LATENT_CHANNELS, 1)
        self.conv3 = nn.Conv2d(LATENT_CHANNELS, 16, 3, padding=1)
        self.conv4 = nn.Conv2d(16, 1, 3, padding=1)

    def encode(self, x):
        h = torch.relu(self.conv1(x))
        h = torch.relu(self.conv2(h))
        logvar = torch.minimum(self.to_logvar(h), torch.tensor(20.0))
        return self.to_mean(h), torch.maximum(logvar, torch.tensor(-30.0))

    def decode(self, z):
        for conv in (self.conv3, self.conv4):
            z = conv(torch.nn.functional.interpolate(torch.tanh(z), scale_factor=2))
        return z


# %% loss
def vae_loss(x, reconstruction, mean, logvar, beta):
    total = 0
    divergence = kl(mean, logvar)
    for i in range(len(x)):
        total = total + ((x[i] - reconstruction[i]) ** 2).sum() + beta * divergence[i]
    return total / len(x)


# %% scale
def scaling_factor(z):
    numbers = z.reshape(-1).tolist()
    mean = sum(numbers) / len(numbers)
    variance = sum((number - mean) ** 2 for number in numbers) / len(numbers)
    return 1 / math.sqrt(variance)


def to_diffusion(z, factor):
    return factor * z


def from_diffusion(z, factor):
    return z / factor


# %% walk
def walk(encode, decode, a, b, stops):
    start = encode(a.unsqueeze(0))[0]
    end = encode(b.unsqueeze(0))[0]
    pictures = []
    for i in range(stops):
        share = i / (stops - 1)
        z = (1 - share) * start + share * end
        pictures.append(decode(z.unsqueeze(0))[0])
    return torch.stack(pictures)
