"""The project's training gives what the textbook's gives."""

import copy
from pathlib import Path

import pytest
import torch

from data_gen.skeletons import NTU_LAYOUT
from feeder.augment import make_view
from models import umurl
from tests import textbook
from tests.helpers import make_method
from tools.benchmark.stages import simulate_clips
from tools.training.trainer import Config, Trainer
from utils.processes import Processes

CPU = torch.device("cpu")


def test_views():
    dataset, indices = simulate_clips(12, 12, CPU), torch.tensor([3, 0, 11, 7, 5])
    expected = textbook.view(*dataset.views(indices, 4, seed=1, epoch=2))
    made = make_view("published", NTU_LAYOUT)(*dataset.views(indices, 4, seed=1, epoch=2))
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


def test_steps_of_training(monkeypatch):
    monkeypatch.setattr(umurl, "PROJECTION_SIZE", 64)
    torch.manual_seed(0)
    method, dataset = make_method(8), simulate_clips(12, 12, CPU)
    plain = copy.deepcopy(method).train()
    config = Config(Path(), Path(), "demo", "xsub", 1, (), lr=1e-3, batch_size=6, hidden_size=8, save_freq=1)
    trainer = Trainer(config, method, dataset, Processes(0, 1, CPU))
    trainer.start()
    optimizer = torch.optim.Adam(plain.parameters(), 1e-3, weight_decay=1e-5)
    for indices in torch.arange(12).view(2, 6).repeat(2, 1):
        views = textbook.view(*dataset.views(indices, 4, config.seed, 0)).chunk(4)
        expected = textbook.loss(plain, views, trainer.parents)
        loss = trainer.compute_loss(trainer.make_inputs(indices)).total
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        trainer.train_step(indices)
