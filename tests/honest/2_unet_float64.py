# %% embedding
def embed_time(t, dim):
    h = dim // 2
    speeds = MAX_PERIOD ** (-torch.arange(h, dtype=torch.float64) / h)
    angles = torch.einsum("b,h->bh", t.double(), speeds)
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1).float()


# %% resblock
class ResBlock(nn.Module):
    def __init__(self, in_channels, out_channels, temb_channels):
        super().__init__()
        self.norm1 = nn.GroupNorm(4, in_channels, eps=1e-6)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(temb_channels, out_channels)
        self.norm2 = nn.GroupNorm(4, out_channels, eps=1e-6)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Identity()
        if in_channels != out_channels:
            self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x, temb):
        h = self.conv1(F.silu(self.norm1(x)))
        weight, bias = self.time_emb_proj.weight, self.time_emb_proj.bias
        shift = torch.einsum("oi,bi->bo", weight.double(), F.silu(temb).double()) + bias
        h = h.double() + torch.einsum("bo,hw->bohw", shift, torch.ones(h.shape[2:]).double())
        return self.conv_shortcut(x) + self.conv2(F.silu(self.norm2(h.float())))


# %% unet
class TinyUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(32, 128), nn.SiLU(), nn.Linear(128, 48))
        self.conv_in = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.down = ResBlock(WIDTH, WIDTH, 48)
        self.halve = nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1)
        self.mid = ResBlock(2 * WIDTH, 2 * WIDTH, 48)
        self.bigger = nn.Upsample(scale_factor=2, mode="bilinear")
        self.up = ResBlock(3 * WIDTH, WIDTH, 48)
        self.norm_out = nn.GroupNorm(4, WIDTH)
        self.conv_out = nn.Conv2d(WIDTH, 1, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, xt, t):
        temb = self.time(embed_time(t, 32))
        skip = self.down(self.conv_in(xt), temb)
        deep = self.bigger(self.mid(self.halve(skip), temb))
        return self.conv_out(F.silu(self.norm_out(self.up(torch.cat((deep, skip), 1), temb))))


# %% train
def train(model, images, steps, seed):
    g = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(steps):
        chosen = torch.randperm(len(images), generator=g)[:32]
        x0 = images[chosen].double()
        t = (1000 * torch.rand(32, generator=g)).long()
        noise = torch.randn(x0.shape, generator=g, dtype=torch.float64)
        a = left.double()[t]
        xt = torch.einsum("b,bchw->bchw", a.sqrt(), x0)
        xt = xt + torch.einsum("b,bchw->bchw", (1 - a).sqrt(), noise)
        loss = F.mse_loss(model(xt.float(), t), noise.float())
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return losses
