"""Write augmented training images with bboxes (green), ignored bboxes (gray) and keypoints (red)."""

from mmdet.cli import add_config, add_shared, make_parser
from mmdet.errors import ConfigError


def main() -> None:
    parser = make_parser(__doc__)
    add_config(parser)
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="folder for the images")
    parser.add_argument("--num", type=int, default=20, help="number of images (default 20)")
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument("--epoch", type=int, default=0, help="whose random numbers to use (default 0)")
    add_shared(parser, "--seed")
    add_shared(parser, "--cfg-options")
    args = parser.parse_args()

    from mmdet.config import load_config
    from mmdet.datasets.build import build_dataset
    from mmdet.datasets.draw import write_samples

    cfg = getattr(load_config(args.config, args.cfg_options).data, args.split)
    if cfg is None:
        raise ConfigError(f"{args.config} has no data.{args.split}")
    dataset = build_dataset(cfg, test_mode=args.split == "val", seed=args.seed, path=f"data.{args.split}")
    files = write_samples(dataset, args.output_dir, args.num, args.epoch)
    print(f"wrote {len(files)} images to {args.output_dir}")
