"""``python -m sskd evaluate|train|export``: the trainer without the benchmarks."""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sskd.arguments import Parser, file_path, replace_unencodable_output
from sskd.config.execution import Execution
from sskd.config.networks import NetworkSettings
from sskd.config.recipe import DatasetSpec
from sskd.config.validation import from_dict
from sskd.console.signals import ENDING, Stopped, stop_signal
from sskd.errors import UserError, in_words
from sskd.runs.spec import read_spec
from sskd.version import ShowVersion


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0; 2 after one line for bad input; 130, 143 or 129 after Ctrl-C, SIGTERM or a closed
    terminal."""
    replace_unencodable_output()
    options = _parser().parse_args(arguments)
    try:
        options.action(options)
    except (UserError, OSError) as error:  # OSError: a file that this user may not read or write
        print(f"sskd: {in_words(error)}", file=sys.stderr)
        return 2
    except Stopped as end:
        print(f"\nsskd: {end}; run the same command again to resume", file=sys.stderr)
        return end.status
    except KeyboardInterrupt:
        print("\nsskd: stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> Parser:
    name = "sskd" if Path(sys.argv[0]).stem == "sskd" else "python -m sskd"
    parser = Parser(prog=name, description=__doc__)
    parser.add_argument("--version", action=ShowVersion)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    evaluate = commands.add_parser("evaluate", help="accuracy of a weights file on a test set")
    evaluate.add_argument("--network", required=True)
    evaluate.add_argument("--weights", required=True, type=file_path)
    evaluate.add_argument(
        "--which",
        help="weights to use if the file holds several: raw, averaged, or the key under which they are stored",
    )
    evaluate.add_argument("--dataset", required=True)
    evaluate.add_argument(
        "--dataset-path", help="file or folder of the images, for the datasets npz, folder and imagenet"
    )
    evaluate.add_argument(
        "--image-size", type=int, help="side (pixels) of the images that the network sees (default: the network's own)"
    )
    evaluate.add_argument(
        "--data-config", help="published weights whose image size, mean and std are used: timm:a1_in1k"
    )
    for values in ("--mean", "--std"):
        evaluate.add_argument(
            values,
            type=float,
            nargs=3,
            metavar="X",
            help=f"per-channel {values.strip('-')} of the normalisation, of pixels / 255 (default: the data set's)",
        )
    evaluate.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.set_defaults(action=_evaluate)

    run = commands.add_parser("train", help="train one run from its spec")
    run.add_argument("spec", type=file_path, help="YAML file of a RunSpec, such as spec.yaml in the folder of a run")
    run.add_argument(
        "--processes",
        type=int,
        help="number of data-parallel processes (recipe.processes, which is part of the run's id)",
    )
    run.add_argument(
        "--tracker",
        action="append",
        metavar="NAME",
        help="tensorboard, wandb or mlflow; may be repeated (default: tensorboard if it is installed)",
    )
    run.add_argument("--runs", type=file_path, default=Path("results/runs"), help="folder of the run folders")
    run.set_defaults(action=_train)

    export = commands.add_parser("export", help="write a trained network to a folder, with a model card")
    export.add_argument("run", type=file_path, help="folder of a finished run: results/PROFILE/runs/ID")
    export.add_argument(
        "--to", type=file_path, required=True, metavar="DIR", help="folder to write: new or empty, or an earlier export"
    )
    export.add_argument(
        "--epoch",
        choices=("last", "best"),
        default="last",
        help="which weights to export: last, or best (the epoch with the highest test accuracy; this accuracy is "
        "optimistically biased, because the epoch was selected on the test set) (default: last)",
    )
    export.add_argument(
        "--licence", "--license", default="unknown", help="licence of the weights, by its name on the hub: mit, ..."
    )
    export.add_argument(
        "--onnx", action="store_true", help="also export to ONNX, checked with ONNX Runtime (extra: onnx)"
    )
    export.set_defaults(action=_export)

    for command in (evaluate, run, export):
        command.add_argument(
            "--plugin",
            action="append",
            default=[],
            metavar="FILE.py",
            help="file with your own methods, networks, ...; may be repeated",
        )
    for command in (evaluate, run):
        command.add_argument("--dataset-root", default="data", help="folder of the data sets (default: data)")
        command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
        command.add_argument("--threads", type=int, help="number of CPU threads")
    return parser


def _execution(options: argparse.Namespace) -> Execution:
    given = {"dataset_root": options.dataset_root, "device": options.device, "threads": options.threads}
    given["trackers"] = getattr(options, "tracker", None)
    execution: Execution = from_dict(Execution, given, "options")
    return execution


def _evaluate(options: argparse.Namespace) -> None:
    import torch  # here and below: importing torch would delay --help by seconds

    from sskd.data.datasets.registry import load_dataset
    from sskd.networks.weights import load_network
    from sskd.runs.plugins import load_plugins
    from sskd.runs.trained import statistics
    from sskd.runtime.device import device_of, resolve_precision, threads_of
    from sskd.training.evaluation import EvaluationSet, accuracy

    load_plugins(options.plugin)
    execution = _execution(options)
    torch.set_num_threads(threads_of(execution))
    device = device_of(execution)
    spec: DatasetSpec = from_dict(DatasetSpec, {"name": options.dataset, "path": options.dataset_path}, "options")
    data = load_dataset(spec, Path(execution.dataset_root))
    given = {key: getattr(options, key) for key in ("image_size", "mean", "std")}
    given["data_config"] = options.data_config or ""
    used_as: NetworkSettings = from_dict(NetworkSettings, given, "options")
    log = partial(print, file=sys.stderr)
    weights, images = options.weights, statistics(data)
    network = load_network(weights, options.network, data.num_classes, used_as, options.which, log, images).to(device)
    test = EvaluationSet(data, device, resolve_precision(options.precision, device))
    measured = accuracy(network.to(memory_format=test.layout), test)
    if options.json:
        print(json.dumps(measured))
    else:
        print(
            f"{options.network} on {measured['images']} test images of {options.dataset}: "
            f"top-1 {measured['top1']:.2f}, top-5 {measured['top5']:.2f}, loss {measured['loss']:.4f} "
            f"({test.precision})"
        )


def _train(options: argparse.Namespace) -> None:
    from sskd.console.progress import Progress
    from sskd.runs.plugins import load_plugins
    from sskd.runs.run_folder import RunFolder
    from sskd.runtime.device import cores_and_gpus, threads_of, with_threads
    from sskd.training.processes import Launch, train_in_processes, train_launched
    from sskd.training.run import Interrupted

    load_plugins(options.plugin)  # before the spec is read, because it may use their names
    launch = Launch.of_environment()
    processes = launch.world_size if options.processes is None and launch else options.processes
    spec = read_spec(options.spec, [] if processes is None else [f"recipe.processes={processes}"])
    is_rank_zero = launch is None or launch.rank == 0
    folder = RunFolder(options.runs, spec)
    if folder.is_finished():
        if is_rank_zero:
            print(f"{spec.id} is already finished; its result is in {folder.result}")
        return
    execution = _execution(options)
    if options.plugin:
        from sskd.data.datasets.registry import dataset_info
        from sskd.runs.trial import try_method, try_networks

        data, _ = dataset_info(spec.dataset, Path(options.dataset_root))
        try_networks(spec, data.image_size, data.num_classes)
        try_method(spec, data.image_size, data.num_classes, data.train_images)
    load = partial(load_plugins, options.plugin)
    execution = with_threads(execution, threads_of(execution))
    if launch is not None and not is_rank_zero:
        with stop_signal(*ENDING) as stop:
            try:
                train_launched(launch, spec, options.runs, execution, should_stop=stop)
            except Interrupted:
                raise SystemExit(Stopped(stop.received).status) from None
        return
    cores, gpus = cores_and_gpus(execution, spec.recipe.processes)
    with (
        stop_signal(*ENDING) as stop,
        Progress(1) as progress,
        progress.run(spec, cores, gpus) as on_step,
    ):
        try:
            if launch is not None:
                result = train_launched(launch, spec, options.runs, execution, on_step, progress.log, stop)
            else:
                result = train_in_processes(spec, options.runs, execution, on_step, progress.log, stop, load)
        except Interrupted as reason:
            raise Stopped(stop.received, str(reason)) from None
        progress.finished(spec, result)


def _export(options: argparse.Namespace) -> None:
    from sskd.export.folder import export_run
    from sskd.runs.plugins import load_plugins

    load_plugins(options.plugin)
    print(export_run(options.run, options.to, options.epoch, options.licence, options.onnx))


if __name__ == "__main__":
    raise SystemExit(main())
