"""`luffy-pl export RUN[@PHASE] --out DIR`: a trained policy for others to use."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from luffy_pl.commands.parser import CommandParser
from luffy_pl.errors import StorageError, first_line


def main(argv: Sequence[str]) -> int:
    """Export one checkpoint; push it where --push says."""
    parser = CommandParser(
        prog="luffy-pl export",
        description="Write a trained policy as a model folder with a card.",
    )
    parser.add_argument("run", help="run folder, with @PHASE for a checkpoint that is not the last")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="of the weights written"
    )
    parser.add_argument("--push", metavar="REPO", help="also upload to this hub repository")
    parser.add_argument("--public", action="store_true", help="if it is new; else it is private")
    parser.add_argument(
        "--license", help="the hub's identifier, for the card; default: what the base's card says"
    )
    args = parser.parse_args(argv)

    from luffy_pl.model.card import write_card
    from luffy_pl.model.export import export, parse_run
    from luffy_pl.run.composition import default_settings

    run, phase = parse_run(args.run)
    exported = export(run, args.out, phase=phase, dtype=args.dtype)
    write_card(exported, args.out, default_settings(), license=args.license)
    sys.stdout.write(f"phase {exported.checkpoint.phase} of {run} written: {args.out}\n")
    if args.push:
        sys.stdout.write(push(args.out, args.push, private=not args.public) + "\n")
    return 0


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload the folder; returns its address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(folder_path=folder, repo_id=repository))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise StorageError(
            "push",
            f"the hub does not take it ({first_line(error)})",
            value=repository,
            fix=f"log in with `hf auth login`; the folder {folder} is whole",
        ) from error
