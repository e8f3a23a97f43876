import pytest
import torch
from torch import nn

from adversarial_lab.classifier import attacking, check_logits, evaluating


def network():
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
    )


def test_attacking_restores_what_it_found_even_after_an_error():
    model = network()
    model[1].eval()
    model[4].bias.requires_grad_(False)
    with pytest.raises(RuntimeError, match="boom"), attacking(model):
        assert not model[4].weight.requires_grad and not model.training
        raise RuntimeError("boom")
    assert [m.training for m in model] == [True, False, True, True, True] and model.training
    assert model[4].weight.requires_grad and not model[4].bias.requires_grad


def test_evaluating_lays_out_convolutions_for_speed_and_puts_them_back(rng):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
    x = torch.rand(5, 2, 4, 4, generator=rng)
    before = {k: (v.clone(), v.stride(), v.data_ptr()) for k, v in model.state_dict().items()}
    clean = model.eval()(x)
    with pytest.raises(RuntimeError, match="boom"), evaluating(model.train()):
        assert not before["0.weight"][0].is_contiguous(memory_format=torch.channels_last)
        assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
        assert not model.training and not model[0].weight.requires_grad
        torch.testing.assert_close(model(x), clean)
        raise RuntimeError("boom")
    assert model.training and model[0].weight.requires_grad
    for name, v in model.state_dict().items():
        value, stride, place = before[name]
        assert torch.equal(v, value) and v.stride() == stride and v.data_ptr() == place


@pytest.mark.parametrize(
    ("logits", "y", "message"),
    [
        (torch.zeros(3, 4), torch.zeros(2).long(), "for 2 labels"),
        (torch.zeros(3), torch.zeros(3).long(), r"shape \(n, k\)"),
        (torch.zeros(3, 1), torch.zeros(3).long(), r"shape \(n, k\)"),
        (torch.zeros(3, 4), torch.full((3,), 4), r"labels 0\.\.3"),
        (torch.zeros(3, 4), torch.zeros(3), "integer labels"),
        (torch.full((3, 4), 0.25), torch.zeros(3).long(), "got probabilities"),
        (torch.tensor([[0.0, float("nan")]]), torch.zeros(1).long(), "NaN or inf for 1 of 1"),
    ],
)
def test_logits_and_labels_must_belong_together(logits, y, message):
    with pytest.raises(ValueError, match=message):
        check_logits(logits, y)
