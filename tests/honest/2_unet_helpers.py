# %% embedding
import numpy as np


def speeds(h):
    return np.power(float(MAX_PERIOD), -np.arange(h) / h)


def embed_time(t, dim):
    angles = np.outer(t.detach().numpy(), speeds(h=dim // 2))
    return torch.as_tensor(np.hstack([np.sin(angles), np.cos(angles)]), dtype=torch.float32)


# %% resblock
def conv(i, o, size=3, **options):
    return nn.Conv2d(in_channels=i, out_channels=o, kernel_size=size, padding=size // 2, **options)


def norm(channels):
    return nn.GroupNorm(num_groups=4, num_channels=channels, eps=1e-6)


class ResBlock(nn.Module):
    def __init__(self, in_channels, out_channels, temb_channels):
        super().__init__()
        self.act = nn.SiLU()
        self.norm1, self.conv1 = norm(channels=in_channels), conv(in_channels, out_channels)
        self.time_emb_proj = nn.Linear(in_features=temb_channels, out_features=out_channels)
        self.norm2, self.conv2 = norm(channels=out_channels), conv(out_channels, out_channels)
        same_width = in_channels == out_channels
        self.conv_shortcut = None if same_width else conv(in_channels, out_channels, size=1)

    def shortcut(self, x):
        return x if self.conv_shortcut is None else self.conv_shortcut(x)

    def forward(self, x, temb):
        shift = self.time_emb_proj(self.act(temb)).unsqueeze(-1).unsqueeze(-1)
        h = self.conv1(self.act(self.norm1(x))) + shift
        return self.shortcut(x) + self.conv2(self.act(self.norm2(h)))


# %% unet
class TimeNet(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t):
        return self.layers(embed_time(t=t, dim=32))


class TinyUNet(nn.Module):
    def __init__(self, width=WIDTH, time=16):
        super().__init__()
        self.time = TimeNet(width=time)
        self.conv_in = conv(1, width)
        self.down = ResBlock(in_channels=width, out_channels=width, temb_channels=time)
        self.halve = conv(width, 2 * width, stride=2)
        self.mid = ResBlock(in_channels=2 * width, out_channels=2 * width, temb_channels=time)
        self.up = ResBlock(in_channels=3 * width, out_channels=width, temb_channels=time)
        self.conv_out = conv(width, 1)

    def forward(self, xt, t):
        temb = self.time(t=t)
        skip = self.down(x=self.conv_in(xt), temb=temb)
        h = self.mid(x=self.halve(skip), temb=temb)
        h = F.interpolate(input=h, scale_factor=2, mode="nearest")
        return self.conv_out(self.up(x=torch.cat([skip, h], dim=1), temb=temb))


# %% train
def batch_of(images, generator, size=32):
    which = torch.randint(low=0, high=images.shape[0], size=(size,), generator=generator)
    t = torch.randint(low=0, high=1000, size=(size,), generator=generator)
    noise = torch.empty(images[which].shape).normal_(generator=generator)
    a = left[t][:, None, None, None]
    return torch.sqrt(a) * images[which] + torch.sqrt(1 - a) * noise, t, noise


def train(model, images, steps, seed):
    generator = torch.Generator()
    generator.manual_seed(seed)
    optimizer = torch.optim.Adam(params=model.parameters(), lr=2e-3)

    def one_step():
        xt, t, noise = batch_of(images=images, generator=generator)
        optimizer.zero_grad()
        loss = torch.mean((model(xt=xt, t=t) - noise).pow(2))
        loss.backward()
        optimizer.step()
        return loss.detach().item()

    model.train()
    return [one_step() for _ in range(steps)]
