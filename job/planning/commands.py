"""`finetune plan`: what a run will take, before it is paid for."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command(
    epilog="\b\nExamples:\n"
    "  finetune plan config.yaml\n"
    "  finetune plan config.yaml --price-per-hour 2.50 --json > plan.json"
)
def plan(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml", readable=False, help="Settings, see `finetune config`.")
    ],
    data: Annotated[str | None, typer.Option(metavar="URI", help="Labelled images.", show_default=False)] = None,
    output: Annotated[str | None, typer.Option(metavar="URI", help="Folder of the run.", show_default=False)] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Change one setting; may be repeated.")
    ] = None,
    price_per_hour: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="X", help="Of one device with its share of the machine.", show_default=False),
    ] = None,
    link: Annotated[
        float, typer.Option(min=0.1, metavar="GB/S", help="What an all-reduce moves between devices a second.")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Pull and survey the data, time a few steps of each phase, and say what a run will take and cost."""
    began_s = time.monotonic()
    from dataclasses import replace

    from job import config as configs
    from job.console import console
    from job.interruption import Stop
    from job.platforms import recognise
    from job.quiet import import_tensorflow

    stop = Stop()
    stop.install()
    platform = recognise(os.environ)
    given = {"data.uri": data, "output": output}
    settings = configs.load(
        config,
        [*platform.overrides, *(overrides or ())],
        values={key: uri for key, uri in given.items() if uri is not None},
    )
    import_tensorflow()
    from job.planning import rehearse, table

    started_s = time.monotonic() - began_s
    # Progress goes to stderr, so that the plan alone can be kept.
    found = rehearse.plan(settings, platform, console(sys.stderr), stop, start_s=started_s)
    found = replace(found, link_bytes_s=link * 1e9)
    print(
        json.dumps(found.to_dict(price_per_hour), indent=2)
        if as_json
        else table.text(found, price_per_hour=price_per_hour)
    )
