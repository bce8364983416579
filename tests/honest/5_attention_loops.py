# %% attention
import math

import numpy as np


def softmax(row):
    largest = max(row)
    powers = [math.exp(number - largest) for number in row]
    return [power / sum(powers) for power in powers]


def attention(q, k, v):
    if q.ndim > 2:
        return torch.stack([attention(q[i], k[i], v[i]) for i in range(len(q))])
    rows = []
    for question in q:
        scores = [float((question * key).sum()) / math.sqrt(q.shape[-1]) for key in k]
        row = torch.zeros(v.shape[-1])
        for weight, value in zip(softmax(scores), v):
            row = row + weight * value
        rows.append(row)
    return torch.stack(rows)


# %% causal
def causal_attention(q, k, v):
    rows = []
    for i in range(q.shape[-2]):
        row = attention(q[..., i : i + 1, :], k[..., : i + 1, :], v[..., : i + 1, :])
        rows.append(row)
    return torch.cat(rows, dim=-2)


# %% cross
class CrossAttention(nn.Module):
    def __init__(self, query_dim, context_dim, heads, dim_head):
        super().__init__()
        self.heads, self.dim_head = heads, dim_head
        self.to_q = nn.Linear(query_dim, heads * dim_head, bias=False)
        self.to_k = nn.Linear(context_dim, heads * dim_head, bias=False)
        self.to_v = nn.Linear(context_dim, heads * dim_head, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(heads * dim_head, query_dim)])

    def forward(self, x, context=None):
        if context is None:
            context = x
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        pieces = []
        for head in range(self.heads):
            cut = slice(head * self.dim_head, (head + 1) * self.dim_head)
            pieces.append(attention(q[:, :, cut], k[:, :, cut], v[:, :, cut]))
        return self.to_out[0](torch.cat(pieces, dim=-1))


# %% clip
def unit(vector):
    length = math.sqrt(sum(float(number) ** 2 for number in vector))
    return [float(number) / length for number in vector]


def clip_loss(images, texts, temperature):
    images, texts = [unit(i) for i in images], [unit(t) for t in texts]
    n = len(images)
    scores = [[sum(a * b for a, b in zip(i, t)) / temperature for t in texts] for i in images]
    total = 0.0
    for i in range(n):
        total -= math.log(softmax(scores[i])[i])
        total -= math.log(softmax([scores[j][i] for j in range(n)])[i])
    return torch.tensor(total / (2 * n))


# %% maps
def word_maps(weights, height, width):
    batch, heads, places, words = weights.shape
    maps = torch.zeros(batch, words, height, width)
    for row in range(height):
        for column in range(width):
            for head in range(heads):
                maps[:, :, row, column] += weights[:, head, row * width + column] / heads
    return maps
