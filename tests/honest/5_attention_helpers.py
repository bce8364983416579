# %% attention
def scores_of(q, k):
    return torch.matmul(input=q, other=k.transpose(-2, -1)) / math.sqrt(k.size(-1))


def mixed(scores, v):
    weights = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
    return torch.matmul(weights / weights.sum(dim=-1, keepdim=True), v)


def attention(q, k, v):
    return mixed(scores=scores_of(q=q, k=k), v=v)


# %% causal
import math


def ahead(length):
    return torch.triu(torch.full((length, length), -1e9), diagonal=1)


def causal_attention(q, k, v):
    return mixed(scores=scores_of(q=q, k=k) + ahead(length=q.size(-2)), v=v)


# %% cross
class CrossAttention(nn.Module):
    def __init__(self, query_dim, context_dim, heads, dim_head):
        super().__init__()
        self.heads, self.dim_head = heads, dim_head
        self.to_q, self.to_k, self.to_v = (
            nn.Linear(in_features=width, out_features=heads * dim_head, bias=False)
            for width in (query_dim, context_dim, context_dim)
        )
        self.to_out = nn.ModuleList(modules=[nn.Linear(heads * dim_head, query_dim)])

    def split(self, x):
        return x.view(x.size(0), -1, self.heads, self.dim_head).permute(0, 2, 1, 3)

    def join(self, x):
        return x.permute(0, 2, 1, 3).contiguous().view(x.size(0), -1, self.heads * self.dim_head)

    def forward(self, x, context=None):
        told = x if context is None else context
        q, k, v = self.split(self.to_q(x)), self.split(self.to_k(told)), self.split(self.to_v(told))
        (mix,) = self.to_out
        return mix(self.join(attention(q=q, k=k, v=v)))


# %% clip
def normalized(vectors):
    return vectors / vectors.pow(2).sum(dim=-1, keepdim=True).sqrt()


def diagonal_loss(scores):
    return torch.nn.CrossEntropyLoss()(input=scores, target=torch.arange(scores.shape[0]))


def clip_loss(images, texts, temperature):
    scores = normalized(vectors=images) @ normalized(vectors=texts).t() / temperature
    return 0.5 * diagonal_loss(scores=scores) + 0.5 * diagonal_loss(scores=scores.t())


# %% maps
def word_maps(weights, height, width):
    mean = torch.mean(weights, dim=1)
    return mean.permute(0, 2, 1).reshape(mean.shape[0], -1, height, width)
