"""Train a detector.

    scrfd train configs/scrfd/scrfd_10g.py --work-dir work_dirs/a

Exit codes: 0 done, 2 something in the input is wrong, 3 training failed, 75 stopped by a signal after saving.
"""

import argparse
import signal

from mmdet.cli import add_config, add_shared, at_least, epochs, make_parser, seconds
from mmdet.process import end_with_parent


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, allow_abbrev=False)
    add = parser.add_argument
    add_config(parser)
    add(
        "--work-dir",
        "--work_dir",
        metavar="DIR",
        help="output (default: the config's, or work_dirs/<config>)",
    )
    add_shared(parser, "--device")
    add_shared(parser, "--data-root")
    add_shared(parser, "--val-split")
    add_shared(parser, "--cfg-options")
    add_shared(parser, "--seed", default=None, help="seed of weights and data (default: the config's, or 0)")
    add("--deterministic", action="store_true", help="repeatable kernels where there are any")
    add("--no-validate", action="store_true", help="do not evaluate while training")
    add(
        "--resume-from",
        metavar="FILE|DIR|auto",
        help="continue exactly; auto: the newest checkpoint of work_dir",
    )
    add("--load-from", metavar="FILE", help="start from these weights")
    add("--load-fitting", action="store_true", help="take of --load-from what fits, and list the rest")
    add("--freeze", nargs="+", default=[], metavar="MODULE", help="leave as they are: backbone, neck, ...")
    add_shared(
        parser,
        "--epochs",
        type=epochs,
        help="train so many epochs, 2.5 for example; milestones and intervals are scaled, a long warm-up is "
        "shortened",
    )
    add(
        "--schedule",
        choices=("auto",),
        help="auto: warm-up, rate and intervals that fit the run, instead of the config's",
    )
    add("--perf", action="store_true", help="measure speed: 3 epochs, no checkpoints, no evaluation")
    add("--max-iters", type=at_least(1), metavar="N", help="stop after N iterations")
    add("--auto-scale-lr", action="store_true", help="scale the learning rate with the images per step")
    add("--profiling", action="store_true", help="write a trace of steps 10 to 15 to work_dir/profile")
    hang = "end a run that makes no progress for S seconds more than its longest step; 0: never (default: 60)"
    add("--hang-timeout", type=seconds, default=60.0, metavar="S", help=hang)
    add_shared(parser, "--amp")
    launch = parser.add_argument_group(
        "several ranks", "torchrun: see tools/dist_train.sh; or the Ascend names"
    )
    add = launch.add_argument
    add("--launcher", choices=("none", "pytorch"), default="none", help="pytorch: started by torchrun")
    add("--local_rank", "--local-rank", type=int, metavar="N", help="number of this process on its machine")
    add("--world_size", type=int, metavar="N", help="number of processes")
    add("--master_addr", metavar="HOST", help="address of rank 0")
    add("--master_port", type=int, metavar="PORT", help="port of rank 0")
    add("--npuid", type=int, metavar="N", help="card of local rank 0")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.launcher == "pytorch":
        end_with_parent(signal.SIGTERM)  # torchrun may be killed with -9
    from mmdet.distributed import read_launch, record_errors  # torch is slow to import; --help must not wait
    from mmdet.engine.options import TrainOptions
    from mmdet.engine.run import run_training

    info = read_launch(
        args.launcher,
        local_rank=args.local_rank,
        world_size=args.world_size,
        master_addr=args.master_addr,
        master_port=args.master_port,
        npuid=args.npuid,
    )
    data_root = [f"data_root={args.data_root}"] if args.data_root else []
    val_split = [] if args.val_split is None else [f"data.val_split={args.val_split}"]
    options = TrainOptions(
        config=args.config,
        work_dir=args.work_dir,
        device=args.device,
        cfg_options=[*data_root, *val_split, *args.cfg_options],
        seed=args.seed,
        deterministic=args.deterministic,
        validate=not args.no_validate,
        epochs=args.epochs,
        schedule=args.schedule,
        perf=args.perf,
        max_iters=args.max_iters,
        resume_from=args.resume_from,
        load_from=args.load_from,
        load_fitting=args.load_fitting,
        freeze=args.freeze,
        auto_scale_lr=args.auto_scale_lr,
        amp=args.amp,
        profiling=args.profiling,
        hang_timeout=args.hang_timeout,
    )
    record_errors(run_training)(options, info)
