"""Write the ground-truth .mat files of the WIDER protocol for one's own labelv2 file."""

from mmdet.cli import make_parser


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--label", required=True, metavar="FILE", help="labelv2 file of the validation images"
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder for wider_face_val.mat and wider_{easy,medium,hard}_val.mat "
        "(faces of at least 50, 30, 10 px height count; lower ones are ignored)",
    )
    args = parser.parse_args()

    from mmdet.evaluation.widerface.mat import write_wider_gt

    write_wider_gt(args.label, args.out)
    print(f"wrote 4 files to {args.out}")
