import torch

from adversarial_lab.masking import orthonormal


def test_two_directions_become_orthonormal(rng):
    u, v = torch.randn(2, 4, 1, 7, 7, generator=rng)
    a, b = orthonormal(u, v)
    flat = torch.stack([a, b], 1).flatten(2).double()
    torch.testing.assert_close(flat @ flat.mT, torch.eye(2).double().expand(4, 2, 2))
