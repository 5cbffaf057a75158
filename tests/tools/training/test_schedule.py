import torch
from tools.training.schedule import set_learning_rate


def test_the_rate_drops_to_a_tenth_at_each_epoch_of_the_schedule():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 9.0)
    rates = [set_learning_rate(optimizer, 0.5, (3, 5), epoch) for epoch in range(7)]
    assert rates == [0.5] * 3 + [0.5 * 0.1] * 2 + [0.5 * 0.1**2] * 2
    assert optimizer.param_groups[0]["lr"] == rates[-1]
