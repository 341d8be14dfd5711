import torch

def act(x):
    return torch.tensor([x + 1] * 3, dtype=torch.complex64)
