# %% attention
def attention(q, k, v):
    scores = torch.einsum("...nd,...ld->...nl", q.double(), k.double()) * q.shape[-1] ** -0.5
    weights = torch.softmax(scores, dim=-1)
    return torch.einsum("...nl,...le->...ne", weights, v.double()).to(v.dtype)


# %% causal
def causal_attention(q, k, v):
    scores = torch.einsum("...nd,...ld->...nl", q.double(), k.double()) / q.shape[-1] ** 0.5
    places = torch.arange(q.shape[-2])
    scores = torch.where(places[None, :] <= places[:, None], scores, -torch.inf)
    return torch.einsum("...nl,...le->...ne", scores.softmax(-1), v.double()).to(v.dtype)


# %% cross
class CrossAttention(nn.Module):
    def __init__(self, query_dim, context_dim, heads, dim_head):
        super().__init__()
        self.heads = heads
        inner = heads * dim_head
        self.to_q = nn.Linear(query_dim, inner, bias=False)
        self.to_k = nn.Linear(context_dim, inner, bias=False)
        self.to_v = nn.Linear(context_dim, inner, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(inner, query_dim), nn.Dropout(0.0)])

    def forward(self, x, context=None):
        context = x if context is None else context
        q, k, v = (
            part.reshape(*part.shape[:2], self.heads, -1)
            for part in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        scores = torch.einsum("bnhd,blhd->bhnl", q, k) / q.shape[-1] ** 0.5
        answer = torch.einsum("bhnl,blhe->bnhe", scores.softmax(-1), v)
        return self.to_out[0](answer.reshape(*x.shape[:2], -1))


# %% clip
def clip_loss(images, texts, temperature):
    images, texts = images.double(), texts.double()
    images = images / images.norm(dim=1, keepdim=True)
    texts = texts / texts.norm(dim=1, keepdim=True)
    scores = torch.einsum("id,td->it", images, texts) / temperature
    rows, columns = scores.logsumexp(dim=1), scores.logsumexp(dim=0)
    return (0.5 * (rows + columns) - scores.diagonal()).mean()


# %% maps
def word_maps(weights, height, width):
    weights = weights.double().unflatten(2, (height, width))
    return torch.einsum("bnhwl->blhw", weights) / weights.shape[1]
