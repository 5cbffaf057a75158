"""Fine-tune on all labels or few, once per seed, and report: `action_recognition.py --finetune`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_gen.packed.words import counted
from data_gen.recipes import FINETUNE
from feeder.clips import ClipDataset
from tools.evaluation.features import result_name
from tools.evaluation.finetuned import finetuned_state
from tools.evaluation.label_subsets import stratified
from tools.evaluation.scores import Curves, Validation, best_and_last, curves, history, log_scores
from tools.evaluation.setup import EvaluationSetup, load_setup
from tools.training.finetune import Finetuner, Score, finetune, new_classifier
from tools.training.signals import StopSignal
from tools.training.unfinished import Keeper, Stopped, Unfinished
from tools.utils import checkpoints
from tools.utils.distributed import Processes, check_equal, processes
from tools.utils.errors import UserError
from tools.utils.kept_results import earlier_result, set_aside
from tools.utils.precision import choose_amp
from tools.utils.result_files import settings_of

log = logging.getLogger("umurl")
ALL_LABELS = 1.0


def report_finetuning(args: argparse.Namespace) -> None:
    """Fine-tune with every modality, fraction of the labels and seed in `args`, and write a JSON and models for each
    modality. After a signal, the same command goes on from there. Raises UserError if that is impossible."""
    # A signal while the other processes are still starting must not end this one alone.
    with StopSignal() as stop, processes(args.device) as procs:
        args.amp = choose_amp(args.amp, procs.device)
        setup = load_setup(args, procs.device)
        if setup.is_transfer:  # the task's name says on which data
            setup.result["where"] = setup.encoder.where
        # All recordings: one copy on a GPU serves both sides and every subset.
        source = ClipDataset.of_dataset(setup.packed, np.arange(len(setup.packed)), procs.device)
        task = _task(setup, args)
        unfinished = Unfinished(setup.folder, task + setup.where, _all_settings(setup, args, task), procs)
        with unfinished.held():
            goes_on = unfinished.read()
            setup.start_log(task, procs.rank)
            found = setup.result
            check_equal((Path(found["checkpoint"]).name, found["train"], found["val"]), "the checkpoint and recordings")
            if goes_on:
                log.info(f"going on from {unfinished.folder}, after {len(unfinished.runs)} whole runs")
            report = _Report(args, setup, source, task, procs, unfinished, stop)
            try:
                for name in setup.modalities:
                    if name not in unfinished.reported:
                        report.run(name)
            except Stopped:
                name = signal.Signals(stop.received).name
                log.info(f"stopped by {name}; the same command goes on from {unfinished.folder}")
                sys.exit(128 + stop.received)
            except UserError:  # it would fail in the same way again
                unfinished.remove()
                raise
            unfinished.remove()


def _task(setup: EvaluationSetup, args: argparse.Namespace) -> str:
    """Return the task's name, with which the names of its files begin."""
    kind = "semi_supervised" if args.label_fraction else "finetune"
    if setup.is_transfer:
        transfer = "transfer_{dataset}_{protocol}".format_map(setup.result)
        kind = transfer if kind == "finetune" else f"{transfer}_{kind}"
    return kind + "_scratch" * args.from_scratch


def _all_settings(setup: EvaluationSetup, args: argparse.Namespace, task: str) -> dict[str, Any]:
    """Return all settings that a command's runs depend on."""
    return settings_of(setup.result | {"task": task}) | {
        "task": task + setup.where,
        "modalities": {name: list(stream) for name, (stream,) in setup.modalities.items()},
        "fractions": args.label_fraction,
        "split": [setup.split[side].tolist() for side in setup.split],
        "recipe": [FINETUNE.momentum, FINETUNE.validate_every],
    }


@dataclass
class _Report:
    """Hold a command's training data and its progress."""

    args: argparse.Namespace
    setup: EvaluationSetup
    source: ClipDataset
    task: str
    procs: Processes
    unfinished: Unfinished
    stop: StopSignal

    def run(self, modality: str) -> None:
        """Fine-tune one modality on each fraction with each seed, and write the results."""
        args = self.args
        shares: list[dict[str, Any]] = []
        points: Curves = {}
        trained: dict[bytes, tuple[dict[str, Any], list[Validation]]] = {}  # by the recordings
        for fraction in args.label_fraction or [ALL_LABELS]:
            rows = [self._labelled(fraction, seed) for seed in args.seed]
            title, used = self._title(modality, fraction, len(rows[0])), b"".join(r.numpy().tobytes() for r in rows)
            if used in trained:
                share, validations = trained[used]
                log.info(f"{title}: the same recordings as of {100 * share['fraction']:g} %, so the same scores")
                share = share | {"fraction": fraction, "same_as": share["fraction"]}
            else:
                validations = self._train(modality, fraction, rows, title)
                found = best_and_last(validations, range(len(args.seed)))
                log_scores(title, found)
                share = {"fraction": fraction, "labelled": len(rows[0]), "seeds": args.seed, **found}
                share["history"] = history(validations)
                trained[used] = share, validations
            shares.append(share)
            suffix = f"_{fraction:g}" if args.label_fraction else ""
            points |= curves(validations, range(len(args.seed)), args.seed, suffix)
        if self.procs.is_main:
            self._write(modality, shares, points)
        self.unfinished.reported.append(modality)
        self.unfinished.write({})

    def _labelled(self, fraction: float, seed: int) -> Tensor:
        packed, train = self.setup.packed, self.setup.split["train"]
        return torch.from_numpy(train[stratified(packed.names[train], packed.label[train], fraction, seed)])

    def _train(self, modality: str, fraction: float, rows: list[Tensor], title: str) -> list[Validation]:
        """Fine-tune on the recordings at `rows`, one tensor per seed. Return the validations of all seeds."""
        args, setup = self.args, self.setup
        recipe = replace(
            FINETUNE, lr=args.lr[0], epochs=args.epochs, schedule=tuple(args.schedule), batch_size=args.batch_size
        )
        val = torch.from_numpy(setup.split["val"])
        runs: list[list[Score]] = []
        for seed, labelled in zip(args.seed, rows):
            name = f"{modality} {fraction:g} {seed}"
            if name in self.unfinished.runs:
                runs.append([Score.of(values) for values in self.unfinished.runs[name]])
                continue
            one = f"{title}, seed {seed}"
            (stream,) = setup.modalities[modality]
            model = new_classifier(setup.encoder.backbone, stream, setup.packed.num_classes, seed, args.from_scratch)
            tuner = Finetuner(model, self.source, recipe, seed, self.procs, args.amp, args.compile)
            runs.append(finetune(tuner, labelled, val, one, Keeper(self.unfinished, name, self.stop)))
            if seed == args.seed[0] and self.procs.is_main:
                told = {"fraction": fraction, "labelled": len(labelled), "seed": seed}
                self._write_models(tuner, modality, self._stem(modality, fraction), told)
            self.unfinished.finish(name, runs[-1])
            if len(args.seed) > 1:
                best = max(score.top1 for score in runs[-1])
                log.info(f"{one}: last {runs[-1][-1].top1:.2f} %, best {best:.2f} %")
        return [
            Validation(due[0].epoch, [s.top1 for s in due], [s.top5 for s in due], [s.loss for s in due])
            for due in zip(*runs)
        ]

    def _write_models(self, tuner: Finetuner, modality: str, stem: str, told: dict[str, Any]) -> None:
        """Write the model after the last epoch and the best one into the unfinished folder, where they wait for the
        JSON."""
        best = max(tuner.scores, key=lambda score: score.top1)
        models = {"": (tuner.model.state_dict(), tuner.scores[-1]), "_best": (tuner.best, best)}
        for which, (weights, score) in models.items():
            file = f"{stem}{which}.pth.tar"
            scores = {"epochs": score.epoch, "top1": score.top1, "top5": score.top5, "settings": self._settings()}
            state = finetuned_state(self.setup, modality, weights, file, told | scores, self.args.from_scratch)
            checkpoints.write(self.unfinished.folder / file, state)

    def _settings(self) -> dict[str, Any]:
        return settings_of(self.setup.result | {"task": self.task})

    def _stem(self, modality: str, fraction: float) -> str:
        """Return the stem of a model's file names."""
        name = result_name(self.task, self.setup.where, modality)
        return f"{name}_{fraction:g}" if self.args.label_fraction else name

    def _write(self, modality: str, shares: list[dict[str, Any]], points: Curves) -> None:
        """Write the JSON, and move the models that wait for it to their final place."""
        folder, name = self.setup.folder, result_name(self.task, self.setup.where, modality)
        result = {"fractions": shares} if self.args.label_fraction else shares[0]
        settings = settings_of(result | self.setup.result | {"task": self.task})
        earlier = earlier_result(folder, name)
        set_aside(folder, name, settings)
        for share in shares:
            stem = self._stem(modality, share["fraction"])
            if "fractions" in result and "same_as" not in share:
                set_aside(folder, stem, self._settings())
            for end in (".pth.tar", "_best.pth.tar"):
                if (waiting := self.unfinished.folder / f"{stem}{end}").is_file():
                    waiting.replace(folder / waiting.name)
                    log.info(f"saved {folder / waiting.name}")
        if "fractions" in result and earlier and settings_of(earlier) == settings:
            result["fractions"] = _together(shares, earlier)
        self.setup.write(self.task, modality, result, points)

    def _title(self, modality: str, fraction: float, labelled: int) -> str:
        what = "training from scratch" if self.args.from_scratch else "fine-tuning"
        return f"{what}, {modality}, {100 * fraction:g} % of the labels ({counted(labelled, 'recording')})"


def _together(shares: list[dict[str, Any]], earlier: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of this call and an earlier call's rows of other fractions or seeds."""
    rows = {(s["fraction"], *s.get("seeds", earlier["args"]["seed"])): s for s in [*earlier["fractions"], *shares]}
    return [rows[key] for key in sorted(rows)]
