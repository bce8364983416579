# %% embedding
def embed_time(t, dim):
    h = dim // 2
    result = torch.zeros(len(t), dim)
    for b in range(len(t)):
        for i in range(h):
            w = MAX_PERIOD ** (-i / h)
            result[b, i] = math.sin(float(t[b]) * w)
            result[b, h + i] = math.cos(float(t[b]) * w)
    return result


# %% resblock
class ResBlock(nn.Module):
    def __init__(self, in_channels, out_channels, temb_channels):
        super().__init__()
        self.norm1 = nn.GroupNorm(4, in_channels, eps=1e-6)
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.time_emb_proj = nn.Linear(temb_channels, out_channels)
        self.norm2 = nn.GroupNorm(4, out_channels, eps=1e-6)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)
        if in_channels != out_channels:
            self.conv_shortcut = nn.Conv2d(in_channels, out_channels, kernel_size=1)

    def forward(self, x, temb):
        h = self.norm1(x)
        h = h * torch.sigmoid(h)
        h = self.conv1(h)
        shift = self.time_emb_proj(temb * torch.sigmoid(temb))
        pictures = []
        for i in range(len(h)):
            pictures.append(h[i] + shift[i].reshape(-1, 1, 1))
        h = torch.stack(pictures)
        h = self.norm2(h)
        h = self.conv2(h * torch.sigmoid(h))
        if hasattr(self, "conv_shortcut"):
            x = self.conv_shortcut(x)
        return x + h


# %% unet
class TinyUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear1 = nn.Linear(32, 32)
        self.linear2 = nn.Linear(32, 32)
        self.conv_in = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.down = ResBlock(WIDTH, WIDTH, 32)
        self.halve = nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.mid = ResBlock(WIDTH, WIDTH, 32)
        self.up = ResBlock(2 * WIDTH, WIDTH, 32)
        self.conv_out = nn.Conv2d(WIDTH, 1, 3, padding=1)

    def forward(self, xt, t):
        temb = self.linear2(F.silu(self.linear1(embed_time(t, 32))))
        x = self.conv_in(xt)
        skip = self.down(x, temb)
        x = self.halve(skip)
        x = self.mid(x, temb)
        x = F.interpolate(x, scale_factor=2)
        x = torch.cat([x, skip], dim=1)
        x = self.up(x, temb)
        return self.conv_out(x)


# %% train
def train(model, images, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(steps):
        xt, noise = [], []
        t = torch.zeros(32, dtype=torch.long)
        for i in range(32):
            which = int(torch.randint(0, len(images), (1,), generator=generator))
            t[i] = int(torch.randint(0, 1000, (1,), generator=generator))
            noise.append(torch.randn(images[which].shape, generator=generator))
            a = float(left[t[i]])
            xt.append(math.sqrt(a) * images[which] + math.sqrt(1 - a) * noise[i])
        optimizer.zero_grad()
        answer = model(torch.stack(xt), t)
        loss = ((answer - torch.stack(noise)) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return losses
