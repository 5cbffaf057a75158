"""Recognition: a linear classifier on the frozen encoder's features, or fine-tuned together with the encoder.

    python action_recognition.py --pretrained checkpoints/ntu60_xsub                linear probe
    python action_recognition.py --pretrained checkpoints/ntu60_xsub --finetune     fine-tuning

With --observed 0.1 0.2 ... 1, the probe is also scored on the first tenth of each clip, two tenths and so on.
Fine-tuning also runs in several processes, as pretrain.py does; the same command goes on with the runs that are
missing.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from data_gen.datasets import DATA_ROOT
from feeder.modalities import ENSEMBLE, MODALITIES
from tools.training.recipes import FINETUNE, LINEAR_PROBE, ClassifierRecipe
from utils import options
from utils.errors import UserError
from utils.files import format_summary, summary
from utils.processes import run, single_process
from utils.text import table

if TYPE_CHECKING:
    from models.frozen import Representation
    from tools.evaluation.probe import LinearProbe
    from tools.evaluation.setup import Evaluation

TASK, EARLY = "action_recognition", "early_recognition"
FEW_LABEL_SEEDS = range(5)
log = logging.getLogger("umurl")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    options.add_pretrained_option(parser)
    options.add_data_options(parser, "--finetune-dataset", DATA_ROOT)
    options.add_representation_options(parser)
    add, tuned = parser.add_argument, FINETUNE
    add("--finetune", action="store_true", help="train the encoder together with the classifier, instead of a probe")
    share = "with --finetune: shares of each class's recordings to train on, such as 0.01 0.1; default: all recordings"
    add("--label-fraction", type=options.fraction, nargs="+", metavar="F", help=share)
    scratch = "with --finetune: start from an untrained encoder of the same kind, for comparison"
    add("--from-scratch", action="store_true", help=scratch)
    observed = "linear probe: also recognise from the first share of each clip, such as 0.1 0.2 0.5 1"
    add("--observed", type=options.fraction, nargs="+", metavar="F", help=observed)
    options.add_training_options(parser, "the model, with --finetune")
    rates = f"learning rates; the probe takes several; default: {LINEAR_PROBE.lr:g}, with --finetune {tuned.lr:g}"
    add("--lr", type=options.positive_float, nargs="+", help=rates)
    epochs = f"epochs of training; default: {LINEAR_PROBE.epochs}, with --finetune {tuned.epochs}"
    add("--epochs", type=options.positive_int, help=epochs)
    drops = "epochs at which the rate drops to a tenth; default: {} {}, with --finetune {} {}"
    drops = drops.format(*LINEAR_PROBE.milestones, *tuned.milestones)
    add("--schedule", dest="milestones", type=options.non_negative_int, nargs="*", metavar="EPOCH", help=drops)
    batch = f"global batch size; default: {LINEAR_PROBE.batch_size}, with --finetune {tuned.batch_size}"
    add("--batch-size", type=options.positive_int, help=batch)
    seeds = "random seeds (initialisation, order, choice of labelled recordings); default: 0, with --label-fraction 0–4"
    add("--seed", type=options.non_negative_int, nargs="+", help=seeds)
    return parser.parse_args(argv)


def make_recipe(args: argparse.Namespace) -> tuple[ClassifierRecipe, list[float], list[int]]:
    """Complete the flags by the recipe. Return it, the learning rates and the seeds. Raises UserError."""
    for name, unset in (("label_fraction", None), ("from_scratch", False), ("amp", None), ("compile", "auto")):
        if getattr(args, name) != unset and not args.finetune:
            raise UserError(f"--{name.replace('_', '-')} is for fine-tuning: give --finetune too")
    if args.finetune and (args.centre or args.standardise or args.observed or ENSEMBLE in args.modality):
        raise UserError(
            f"--modality {ENSEMBLE}, --centre, --standardise and --observed are for the probe: leave out --finetune"
        )
    recipe = FINETUNE if args.finetune else LINEAR_PROBE
    flags = {"epochs": args.epochs, "batch_size": args.batch_size}
    if args.milestones is not None:
        flags["milestones"] = tuple(args.milestones)
        options.check_milestones(args.milestones, args.epochs or recipe.epochs)
    lrs = options.unique(args.lr) or [recipe.lr]
    if args.finetune and len(lrs) > 1:
        raise UserError(f"--lr {' '.join(f'{lr:g}' for lr in lrs)}: --finetune takes one rate")
    recipe = replace(recipe, lr=lrs[0], **{name: value for name, value in flags.items() if value is not None})
    return recipe, lrs, options.unique(args.seed) or (list(FEW_LABEL_SEEDS) if args.label_fraction else [0])


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    recipe, lrs, seeds = make_recipe(args)
    if args.finetune:
        finetune(args, recipe, seeds)
    else:
        probe(args, recipe, lrs, seeds)


def finetune(args: argparse.Namespace, recipe: ClassifierRecipe, seeds: list[int]) -> None:
    """Fine-tune with every modality, share of the labels and seed."""
    import numpy as np

    from feeder.clips import ClipDataset
    from tools.evaluation.finetune import Finetuning
    from tools.evaluation.setup import open_evaluation
    from tools.training.acceleration import choose_amp
    from utils.processes import processes

    with processes(args.device) as procs:
        evaluation = open_evaluation(args.pretrained, args.dataset, args.protocol, args.data_root, procs.device)
        # All recordings: one copy on a GPU serves both splits and every subset.
        every = np.arange(len(evaluation.packed))
        source = ClipDataset.of_dataset(evaluation.packed, every, procs.device)
        amp = choose_amp(args.amp, procs.device)
        finetuning = Finetuning(evaluation, recipe, procs, amp, args.compile, args.from_scratch, source)
        fractions = options.unique(args.label_fraction) or [None]
        evaluation.start_log(finetuning.task(fractions[0]), procs.rank)
        for modality in options.unique(args.modality):
            for fraction in fractions:
                for seed in seeds:
                    finetuning.run(modality, fraction, seed, keep_models=seed == seeds[0])


def probe(args: argparse.Namespace, recipe: ClassifierRecipe, lrs: list[float], seeds: list[int]) -> None:
    """Train a linear probe for every representation, learning rate and seed at once."""
    from tools.evaluation.classifier import write_classifier
    from tools.evaluation.probe import LinearProbe, best_and_last, train_probes
    from tools.evaluation.setup import extract_splits, open_evaluation, stem_of, unused_path, variants_of, write_table

    device = single_process(args.device, "action_recognition.py")
    evaluation = open_evaluation(args.pretrained, args.dataset, args.protocol, args.data_root, device)
    evaluation.start_log(TASK)
    variants = variants_of(args.centre, args.standardise)
    representations, train, val = extract_splits(evaluation, args.modality, variants)
    probes = {
        name: LinearProbe(features, train.labels, evaluation.packed.num_classes, recipe, seeds, lrs)
        for name, features in train.features.items()
    }
    settings = recipe.settings()
    runs = [f"seed{seed}" + f"_lr{lr:g}" * (len(lrs) > 1) for lr in lrs for seed in seeds]
    for name, validations in train_probes(probes, val.features, val.labels, late_fusion(list(probes))).items():
        stem = stem_of(TASK, name)
        epochs = [validation.epoch for validation in validations]
        curves = {f"top1_{label}": [v.top1[number] for v in validations] for number, label in enumerate(runs)}
        evaluation.plot(stem, {curve: list(zip(epochs, values)) for curve, values in curves.items()})
        curve = unused_path(evaluation.folder, f"{stem}_curve", ".csv")
        files = {"curve": write_table(curve, {"epoch": epochs, **curves})}
        if name in probes:
            classifier = unused_path(evaluation.folder, stem, ".pth.tar")
            weight, bias = probes[name].weight[0], probes[name].bias[0]  # the first rate and seed, after the last epoch
            write_classifier(classifier, weight, bias, representations[name], evaluation)
            probability = probes[name].logits(val.features[name])[0].softmax(1).max(1)
            columns = {"probability": [f"{value:.4f}" for value in probability.values.tolist()]}
            files["classifier"] = classifier.name
            files["predictions"] = evaluation.write_predictions(stem, probability.indices, columns)
        for i, lr in enumerate(lrs):
            metrics = best_and_last(validations, range(i * len(seeds), (i + 1) * len(seeds)))
            title = f"linear probe, {name}, rate {lr:g}"
            log.info(f"{title}, last: {describe(metrics, 'last')}")
            log.info(f"{title}, best (chosen on the val split): {describe(metrics, 'best')}")
            more = settings | {"lr": lr, "seed": seeds}
            evaluation.add(TASK, name, metrics, more, files if i == 0 else {})
    if args.observed:
        observe(
            evaluation, probes, representations, sorted(set(args.observed)), settings | {"lr": lrs[0], "seed": seeds}
        )


def describe(metrics: dict[str, dict], which: str) -> str:
    return ", ".join(f"top-{k} {format_summary(metrics[f'{which}_top{k}'], 2)} %" for k in (1, 5))


def late_fusion(names: list[str]) -> dict[str, list[str]]:
    """Return {name of the late fusion: the single modalities in `names`}; empty if they are fewer than two."""
    single = [modality for modality in MODALITIES if modality in names]
    return {} if len(single) < 2 else {f"late_{'+'.join(single)}": single}


def observe(
    evaluation: Evaluation,
    probes: dict[str, LinearProbe],
    representations: dict[str, Representation],
    shares: list[float],
    settings: dict,
) -> None:
    """Classify the val split from the first `shares` of each clip, by the probes of the first learning rate."""
    from feeder.clips import ClipDataset
    from tools.evaluation.metrics import top_k_accuracy
    from tools.evaluation.setup import plain_features

    encoder = evaluation.encoder
    source = ClipDataset.of_dataset(evaluation.packed, evaluation.indices["val"], encoder.device)
    labels = source.label.to(encoder.device)
    encoders = {each.modality: encoder.select(each.modality) for each in representations.values()}
    metrics: dict[str, dict] = {name: {} for name in probes}
    for share in shares:
        plain = plain_features(encoders, source.first_part(share), f"features, first {100 * share:g} %")
        for name, representation in representations.items():
            logits = probes[name].logits(representation(plain[representation.modality]))[: len(settings["seed"])]
            for k in (1, 5):
                accuracies = [top_k_accuracy(run, labels, k) for run in logits]
                metrics[name][f"top{k}_at_{100 * share:g}"] = summary(accuracies)
    columns = [[f"{100 * share:g} %" for share in shares]]
    columns += [[format_summary(each[f"top1_at_{100 * share:g}"], 2) for share in shares] for each in metrics.values()]
    log.info("top-1 in %, by the observed part of each clip\n" + table(["observed", *metrics], list(zip(*columns))))
    for name, values in metrics.items():
        evaluation.add(EARLY, name, values, settings, {})


if __name__ == "__main__":
    run(main)
